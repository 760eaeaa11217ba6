//! The place of every tensor of an output: its file, its offset, and the headers that say so.

use serde_json::{Map, Value, json};

use crate::{
    Kind,
    write::layout::{Placed, Shard},
};

/// Distributes tensors over files of at most `limit` bytes in the order that they have, sets their
/// offsets and builds the headers.
pub fn place(tensors: &mut [Placed], limit: usize) -> Vec<Shard> {
    let (mut file, mut filled) = (0, 0);
    for tensor in tensors.iter_mut() {
        // A file gets at least one tensor, however large.
        if filled > 0 && filled + tensor.bytes > limit {
            (file, filled) = (file + 1, 0);
        }
        tensor.file = file;
        filled += tensor.bytes;
    }
    // Wide numbers first, so that every tensor is aligned to the size of its numbers without
    // padding, which the format does not allow.
    tensors.sort_by_key(|tensor| (tensor.file, std::cmp::Reverse(alignment(tensor))));
    let count = file + 1;
    let name = |file| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", file + 1),
    };
    (0..count)
        .map(|file| {
            shard(
                name(file),
                tensors.iter_mut().filter(|tensor| tensor.file == file),
            )
        })
        .collect()
}

/// Places tensors one after the other in a file and builds its header.
pub fn shard<'a>(name: String, tensors: impl Iterator<Item = &'a mut Placed>) -> Shard {
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut end = 0;
    let mut placed: Vec<_> = tensors.collect();
    for tensor in &mut placed {
        tensor.offset = end;
        end += tensor.bytes;
        let entry = json!({
            "dtype": dtype_name(&tensor.kind),
            "shape": tensor.shape,
            "data_offsets": [tensor.offset, end],
        });
        entries.insert(tensor.name.clone(), entry);
    }
    // Padding the header to 8 bytes aligns the data for readers that map the file.
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    // Offsets in the header count from its end, those of the writer from the start of the file.
    for tensor in placed {
        tensor.offset += header.len();
    }
    Shard {
        name,
        bytes: header.len() + end,
        header,
    }
}

/// Bytes per number, as whole bytes: 0 for formats with several numbers per byte, which thus come
/// last.
fn alignment(tensor: &Placed) -> usize {
    tensor.bytes / tensor.shape.iter().product::<usize>().max(1)
}

/// The name of a dtype in a safetensors header.
fn dtype_name(kind: &Kind) -> String {
    kind.to_string().to_uppercase()
}
