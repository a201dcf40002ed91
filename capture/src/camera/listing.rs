use std::fs;
use std::path::{Path, PathBuf};

use lenscast_media::Resolution;

use crate::PixelFormat;
use crate::camera::abi;
use crate::camera::backend::explain;
use crate::camera::device::{Device, FormatDescription, text};
use crate::camera::mode::{IntervalRange, Offer, SizeRange, Steps, pixel_format};
use crate::camera::session::fourcc_text;

/// A camera of this machine, as `lenscast list-cameras` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraListing {
    /// The number in `path`.
    pub index: u32,
    /// The device node, `/dev/video` and the index.
    pub path: PathBuf,
    /// Its names under `/dev/v4l/by-id`, which stay with the camera.
    pub by_id: Vec<String>,
    /// What it calls itself.
    pub card: Option<String>,
    /// The kernel's driver.
    pub driver: Option<String>,
    /// Where it is plugged in.
    pub bus: Option<String>,
    /// What it offers.
    pub formats: Vec<ListedFormat>,
    /// Why it cannot be used, if it cannot.
    pub error: Option<String>,
}

/// A format that a camera offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFormat {
    /// The driver's code of four characters.
    pub fourcc: String,
    /// The driver's description.
    pub description: String,
    /// `None` if lenscast cannot read it.
    pub pixel_format: Option<PixelFormat>,
    /// The sizes offered; none if the driver does not tell.
    pub sizes: Vec<ListedSize>,
}

/// Sizes that a camera offers, and the frame intervals at these sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSize {
    /// The sizes.
    pub size: SizeRange,
    /// The intervals at the largest of them; none if the driver does not tell.
    pub intervals: Vec<IntervalRange>,
}

/// Where the kernel's device nodes are.
const DEV: &str = "/dev";
pub(crate) const BY_ID: &str = "/dev/v4l/by-id";

/// Lists the cameras of this machine, by index. Opens each for a moment, which does not disturb one that streams.
///
/// A node that cannot be opened, or captures nothing, is listed with its error. The nodes on which USB cameras deliver
/// metadata are left out.
#[must_use]
pub fn list_cameras() -> Vec<CameraListing> {
    let names = fs::read_dir(DEV).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut indices: Vec<u32> = names.filter_map(|name| index_of(&name)).collect();
    indices.sort_unstable();
    let links = links();
    indices.into_iter().filter_map(|index| list_camera(index, &links)).collect()
}

fn list_camera(index: u32, links: &[(String, u32)]) -> Option<CameraListing> {
    let path = Path::new(DEV).join(format!("video{index}"));
    let by_id = links.iter().filter(|(_, target)| *target == index).map(|(name, _)| name.clone()).collect();
    // What the kernel tells without the device being opened.
    let card = fs::read(format!("/sys/class/video4linux/video{index}/name")).ok().map(|name| text(&name));
    let mut listing =
        CameraListing { index, path, by_id, card, driver: None, bus: None, formats: Vec::new(), error: None };
    let device = match Device::open(&listing.path) {
        Ok(device) => device,
        Err(error) => {
            listing.error = Some(explain(&error));
            return Some(listing);
        }
    };
    let capability = match device.capability() {
        Ok(capability) => capability,
        Err(error) => {
            listing.error = Some(explain(&error));
            return Some(listing);
        }
    };
    if capabilities(&capability) & (abi::CAP_META_CAPTURE | abi::CAP_VIDEO_CAPTURE) == abi::CAP_META_CAPTURE {
        return None;
    }
    listing.card = Some(text(&capability.card));
    listing.driver = Some(text(&capability.driver));
    listing.bus = Some(text(&capability.bus_info)).filter(|bus| !bus.is_empty());
    if !is_capture_device(&capability) {
        listing.error = Some("it is no device to capture video from".to_owned());
        return Some(listing);
    }
    match device.formats() {
        Ok(formats) => listing.formats = formats.iter().map(|format| listed_format(&device, format)).collect(),
        Err(error) => listing.error = Some(explain(&error)),
    }
    Some(listing)
}

fn listed_format(device: &Device, format: &FormatDescription) -> ListedFormat {
    let sizes = device.sizes(format.fourcc).unwrap_or_default().into_iter().map(|size| {
        let intervals = device.intervals(format.fourcc, size.widths.max, size.heights.max).unwrap_or_default();
        ListedSize { size, intervals }
    });
    ListedFormat {
        fourcc: fourcc_text(format.fourcc),
        description: format.text.clone(),
        pixel_format: pixel_format(format.fourcc),
        sizes: sizes.collect(),
    }
}

/// What of a device's formats lenscast can read, with the intervals at the size nearest to `wanted`.
pub(crate) fn offers(device: &Device, formats: &[FormatDescription], wanted: Resolution) -> Vec<Offer> {
    let any_side = Steps::new(Resolution::MIN_SIDE, Resolution::MAX_SIDE, 2);
    let usable = formats.iter().filter_map(|format| Some((format.fourcc, pixel_format(format.fourcc)?)));
    let offers = usable.map(|(fourcc, format)| {
        let mut sizes = device.sizes(fourcc).unwrap_or_default();
        if sizes.is_empty() {
            // It does not tell, so it may be anything: the device answers with what it really does.
            sizes.push(SizeRange { widths: any_side, heights: any_side });
        }
        let sizes = sizes.into_iter().map(|range| {
            let at = range.nearest(wanted).map(|at| (at.width(), at.height()));
            let (width, height) = at.unwrap_or((range.widths.max, range.heights.max));
            (range, device.intervals(fourcc, width, height).unwrap_or_default())
        });
        Offer { format, fourcc, sizes: sizes.collect() }
    });
    offers.collect()
}

/// The formats by their codes, for messages.
pub(crate) fn format_names(formats: &[FormatDescription]) -> String {
    if formats.is_empty() {
        return "none".to_owned();
    }
    formats.iter().map(|format| fourcc_text(format.fourcc)).collect::<Vec<_>>().join(", ")
}

pub(crate) const fn is_capture_device(capability: &abi::Capability) -> bool {
    const NEEDED: u32 = abi::CAP_VIDEO_CAPTURE | abi::CAP_STREAMING;
    capabilities(capability) & NEEDED == NEEDED
}

/// Those of the node, not of the whole device, where the driver tells them apart.
const fn capabilities(capability: &abi::Capability) -> u32 {
    if capability.capabilities & abi::CAP_DEVICE_CAPS != 0 { capability.device_caps } else { capability.capabilities }
}

/// Each name under by-id, with the index of the node it leads to.
fn links() -> Vec<(String, u32)> {
    let entries = fs::read_dir(BY_ID).into_iter().flatten().filter_map(Result::ok);
    let mut links: Vec<_> = entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().into_string().ok()?, index_of(target.file_name()?.to_str()?)?))
        })
        .collect();
    links.sort_unstable();
    links
}

/// The index in a node's name.
fn index_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("video")?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_video_and_a_number_is_a_node() {
        assert_eq!((index_of("video0"), index_of("video63")), (Some(0), Some(63)));
        for name in ["video", "video+1", "videodev", "vide0", "video99999999999", "video1.conf"] {
            assert_eq!(index_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_nodes_own_capabilities_count() {
        let mut capability = abi::Capability {
            driver: [0; 16],
            card: [0; 32],
            bus_info: [0; 32],
            version: 0,
            capabilities: abi::CAP_VIDEO_CAPTURE | abi::CAP_STREAMING,
            device_caps: abi::CAP_META_CAPTURE | abi::CAP_STREAMING,
            reserved: [0; 3],
        };
        assert!(is_capture_device(&capability), "an old driver that knows no node's own");
        capability.capabilities |= abi::CAP_DEVICE_CAPS;
        assert!(!is_capture_device(&capability), "the metadata node of a camera");
    }
}
