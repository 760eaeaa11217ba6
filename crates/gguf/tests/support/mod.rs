//! What the tests share: the fixtures, and a writer of headers that need not make sense.
#![expect(dead_code, reason = "every test file uses its own part")]

use std::fs;
use std::path::PathBuf;

use compress_gguf::Gguf;

/// A file of `tests/fixtures/gguf`.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/gguf"
    ))
    .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes a header entry by entry, whatever it says.
#[derive(Clone, Default)]
pub struct Header {
    metadata: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

impl Header {
    pub fn entry(mut self, key: &str, id: u32, value: &[u8]) -> Self {
        self.metadata
            .push([string(key), id.to_le_bytes().to_vec(), value.to_vec()].concat());
        self
    }

    pub fn whole(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub fn number(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    pub fn truth(self, key: &str, value: bool) -> Self {
        self.entry(key, 7, &[u8::from(value)])
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &string(value))
    }

    pub fn texts(self, key: &str, values: &[&str]) -> Self {
        let items: Vec<_> = values.iter().map(|value| string(value)).collect();
        self.entry(key, 9, &array(8, &items))
    }

    pub fn numbers(self, key: &str, values: &[f32]) -> Self {
        let items: Vec<_> = values
            .iter()
            .map(|value| value.to_le_bytes().to_vec())
            .collect();
        self.entry(key, 9, &array(6, &items))
    }

    pub fn wholes(self, key: &str, values: &[i32]) -> Self {
        let items: Vec<_> = values
            .iter()
            .map(|value| value.to_le_bytes().to_vec())
            .collect();
        self.entry(key, 9, &array(5, &items))
    }

    /// A tensor with the innermost dimension first, as in the file.
    pub fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let rank = u32::try_from(dims.len()).unwrap().to_le_bytes();
        let dims: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let rest = [kind.to_le_bytes().as_slice(), &offset.to_le_bytes()].concat();
        self.tensors
            .push([string(name), rank.to_vec(), dims, rest].concat());
        self
    }

    /// How many bytes, zeros, follow the header's padding.
    pub fn data(mut self, bytes: usize) -> Self {
        self.data = vec![0; bytes];
        self
    }

    /// The numbers that follow the header's padding.
    pub fn contents(mut self, numbers: &[f32]) -> Self {
        self.data = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = start(3, self.tensors.len() as u64, self.metadata.len() as u64);
        bytes.extend(self.metadata.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    pub fn parse(&self) -> Result<Gguf, compress_gguf::Error> {
        Gguf::parse(&self.bytes())
    }
}

/// The first bytes of a file.
pub fn start(version: u32, tensors: u64, metadata: u64) -> Vec<u8> {
    [
        b"GGUF".as_slice(),
        &version.to_le_bytes(),
        &tensors.to_le_bytes(),
        &metadata.to_le_bytes(),
    ]
    .concat()
}

pub fn string(text: &str) -> Vec<u8> {
    [
        (text.len() as u64).to_le_bytes().as_slice(),
        text.as_bytes(),
    ]
    .concat()
}

pub fn array(id: u32, items: &[Vec<u8>]) -> Vec<u8> {
    [
        id.to_le_bytes().as_slice(),
        &(items.len() as u64).to_le_bytes(),
        &items.concat(),
    ]
    .concat()
}
