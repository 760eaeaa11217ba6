//! The choice of the device that a network runs on.
//!
//! What there is to choose from, `device/adapter.rs` lists.

mod adapter;

use std::str::FromStr;

use burn::tensor::Device;

use crate::{Error, Result};

pub use adapter::{Adapter, adapters};

/// What becomes of the timings by which burn chooses kernels for a GPU. Kernels are chosen by rule: burn is built
/// without its feature `autotune`; and without `persistence` timings would live as long as the process.
pub const AUTOTUNE: &str = "not built in: kernels are chosen by rule, so there is nothing to keep";

/// The name of the CPU among devices.
pub const CPU: &str = "cpu";

/// The device that a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A physical GPU if one answers, else the CPU.
    Automatic,
    /// The CPU.
    Cpu,
    /// Any GPU that wgpu finds, a software driver included; an error where there is none.
    Wgpu,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Self::Automatic),
            CPU => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            _ => Err("a device is auto, cpu or wgpu".into()),
        }
    }
}

impl DeviceChoice {
    /// The device, and its name for reports. Fails for [`Wgpu`](Self::Wgpu) where no driver answers, or the program
    /// was built without wgpu.
    pub fn open(self) -> Result<(Device, String)> {
        let cpu = || (Device::flex(), CPU.to_owned());
        match self {
            Self::Cpu => Ok(cpu()),
            Self::Automatic => Ok(gpu::real().unwrap_or_else(cpu)),
            Self::Wgpu => gpu::any(),
        }
    }
}

#[cfg(feature = "wgpu")]
mod gpu {
    use std::path::Path;

    use burn::tensor::DeviceType;

    use super::{Device, Error, Result};

    /// What Linux has for a card: a driver in software needs none, takes a tenth of a second and 70 MB to load, and would
    /// not be taken.
    const CARDS: [&str; 5] = [
        "/dev/dri",
        "/dev/nvidiactl",
        "/dev/dxg",
        "/dev/kgsl-3d0",
        "/dev/mali0",
    ];

    /// The first adapter that is a card, not a software driver: on that, the CPU's own kernels are faster.
    pub fn real() -> Option<(Device, String)> {
        let none = cfg!(target_os = "linux") && !CARDS.iter().any(|card| Path::new(card).exists());
        if none {
            return None;
        }
        Device::enumerate(DeviceType::Wgpu)
            .iter()
            .find_map(|device| {
                let identity = device.identity()?;
                identity.physical.map(|_| (device.clone(), identity.name))
            })
    }

    /// The first adapter, a card if there is one.
    pub fn any() -> Result<(Device, String)> {
        let software = || {
            let device = Device::enumerate(DeviceType::Wgpu).first()?.clone();
            let name = device
                .identity()
                .map_or_else(|| "wgpu".to_owned(), |identity| identity.name);
            Some((device, name))
        };
        let problem = "no driver answers; is a Vulkan, Metal or DirectX 12 driver installed?";
        real().or_else(software).ok_or(Error::Device {
            wanted: "wgpu device",
            problem,
        })
    }
}

#[cfg(not(feature = "wgpu"))]
mod gpu {
    use super::{Device, Error, Result};

    pub const fn real() -> Option<(Device, String)> {
        None
    }

    pub const fn any() -> Result<(Device, String)> {
        let problem = "this program was built without it, by `--no-default-features`";
        Err(Error::Device {
            wanted: "wgpu device",
            problem,
        })
    }
}
