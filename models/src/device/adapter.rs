//! The adapters that wgpu finds on this machine, and what they say of themselves.

/// An adapter: a card, or a driver that runs shaders on the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// As its driver calls it.
    pub name: String,
    /// The graphics API that reaches it. A card that two of them reach is listed twice.
    pub api: String,
    /// The driver and its version; empty where it does not say.
    pub driver: String,
    /// What kind of device: `discrete GPU`, `software driver` and so on.
    pub kind: &'static str,
    /// Whether it is a card.
    pub physical: bool,
    /// Whether its shaders compute with 16-bit floats.
    pub f16: bool,
    /// Bytes of the largest buffer that it allows.
    pub largest_buffer: u64,
}

/// All adapters, by the APIs that compute is at home in (not OpenGL); `None` where the program was built without wgpu. Opens none of them.
#[cfg(feature = "wgpu")]
#[must_use]
pub fn adapters() -> Option<Vec<Adapter>> {
    use burn::tensor::{read_sync, wgpu::wgpu};

    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let found = read_sync(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let describe = |adapter: &wgpu::Adapter| {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        Adapter {
            api: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info)
                .trim()
                .to_owned(),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete GPU",
                wgpu::DeviceType::IntegratedGpu => "integrated GPU",
                wgpu::DeviceType::VirtualGpu => "virtual GPU",
                wgpu::DeviceType::Cpu => "software driver",
                wgpu::DeviceType::Other => "of unknown kind",
            },
            physical: info.device_type != wgpu::DeviceType::Cpu,
            f16: adapter.features().contains(wgpu::Features::SHADER_F16),
            // As burn's allocator has it: a buffer is of use only where a kernel can be given all of it.
            largest_buffer: limits
                .max_buffer_size
                .min(limits.max_storage_buffer_binding_size),
            name: info.name,
        }
    };
    Some(found.iter().map(describe).collect())
}

/// None: the program was built without wgpu.
#[cfg(not(feature = "wgpu"))]
#[must_use]
pub const fn adapters() -> Option<Vec<Adapter>> {
    None
}
