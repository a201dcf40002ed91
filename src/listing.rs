//! What `lenscast list-cameras` prints.

use std::fmt::Write as _;

use lenscast_capture::{CameraListing, IntervalRange, ListedFormat};
use serde_json::{Value, json};

/// For a person.
#[must_use]
pub fn to_text(cameras: &[CameraListing]) -> String {
    if cameras.is_empty() {
        return "no cameras: there is none under /dev/video*, or this user may not read them (group video)\n"
            .to_owned();
    }
    let mut text = String::new();
    for camera in cameras {
        write_camera(&mut text, camera).expect("a String takes everything");
    }
    text
}

/// For a program.
#[must_use]
pub fn to_json(cameras: &[CameraListing]) -> String {
    let cameras: Vec<Value> = cameras.iter().map(camera_json).collect();
    format!("{:#}\n", json!({ "cameras": cameras }))
}

fn write_camera(text: &mut String, camera: &CameraListing) -> std::fmt::Result {
    writeln!(text, "{}  {}", camera.path.display(), camera.card.as_deref().unwrap_or("(no name)"))?;
    for name in &camera.by_id {
        writeln!(text, "  by-id   {name}")?;
    }
    if let Some(bus) = &camera.bus {
        writeln!(text, "  bus     {bus}")?;
    }
    if let Some(error) = &camera.error {
        writeln!(text, "  error   {error}")?;
    }
    for format in &camera.formats {
        let read =
            format.pixel_format.map_or_else(|| "cannot be read".to_owned(), |format| format!("format = \"{format}\""));
        writeln!(text, "  {}    {} ({read})", format.fourcc, format.description)?;
        for size in &format.sizes {
            let rates: Vec<String> = size.intervals.iter().map(rate_text).collect();
            writeln!(text, "          {}  {} fps", size.size, rates.join(", "))?;
        }
    }
    Ok(())
}

fn rate_text(range: &IntervalRange) -> String {
    if range.shortest == range.longest {
        range.shortest.to_string()
    } else {
        format!("{} to {}", range.longest, range.shortest)
    }
}

fn camera_json(camera: &CameraListing) -> Value {
    json!({
        "index": camera.index,
        "path": camera.path.display().to_string(),
        "byId": camera.by_id,
        "name": camera.card,
        "driver": camera.driver,
        "bus": camera.bus,
        "error": camera.error,
        "formats": camera.formats.iter().map(format_json).collect::<Vec<_>>(),
    })
}

fn format_json(format: &ListedFormat) -> Value {
    let sizes = format.sizes.iter().map(|size| {
        let rates: Vec<String> = size.intervals.iter().map(rate_text).collect();
        json!({ "size": size.size.to_string(), "fps": rates })
    });
    json!({
        "fourcc": format.fourcc,
        "description": format.description,
        "format": format.pixel_format.map(|format| format.to_string()),
        "sizes": sizes.collect::<Vec<_>>(),
    })
}
