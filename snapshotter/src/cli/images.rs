//! `slipwayd images`.

use std::time::Duration;

use bytesize::ByteSize;
use proto::control::{Image, ImagesRequest};
use serde_json::json;
use snapshotter::layout::Layout;

use super::printer::{self, Format};
use super::runtime;
use super::settings::Settings;
use super::status::data_path;

/// Asks the daemon and prints its answer.
pub(super) fn run(settings: &Settings, format: Format) -> anyhow::Result<()> {
    let config = settings.config()?;
    let control = Layout::new(&config.root, &config.run_dir).control();
    let images = runtime()?.block_on(async {
        let mut client = proto::control::connect(&control).await?;
        anyhow::Ok(client.images(ImagesRequest {}).await?.into_inner().images)
    })?;
    if format.json {
        return printer::json(&images.iter().map(as_json).collect());
    }
    printer::data(&table(&images))
}

/// One line for each image.
pub(super) fn table(images: &[Image]) -> String {
    let heading = [
        "ID",
        "IMAGE",
        "LOCAL",
        "NEEDED",
        "FETCHED",
        "DEMAND",
        "HINT",
        "FILL",
        "BLOCKED",
        "REQUESTS",
        "READ ERRORS",
        "MOUNTS",
        "PATH",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(images.iter().map(as_row));
    printer::table(&rows)
}

fn as_row(image: &Image) -> Vec<String> {
    // Nothing is known of the size of an image that could not be served yet.
    let known = |text: String| {
        if image.served_since_unix_seconds == 0 {
            "-".to_owned()
        } else {
            text
        }
    };
    let bytes = |len: u64| known(ByteSize::b(len).display().iec().to_string());
    // Finer than a millisecond is noise.
    let blocked = Duration::from_millis(image.blocked_microseconds / 1000);
    let blocked = humantime::format_duration(blocked);
    vec![
        image.id.to_string(),
        image.reference.clone(),
        // The cache may have more: what other images need of the same blobs.
        bytes(image.local_bytes.min(image.needed_bytes)),
        bytes(image.needed_bytes),
        bytes(image.fetched_bytes),
        bytes(image.demand_bytes),
        bytes(image.hint_bytes),
        bytes(image.fill_bytes),
        known(blocked.to_string()),
        known(image.request_count.to_string()),
        known(image.read_error_count.to_string()),
        image.mount_count.to_string(),
        known(data_path(image.data_path()).to_owned()),
    ]
}

pub(super) fn as_json(image: &Image) -> serde_json::Value {
    json!({
        "id": image.id,
        "reference": image.reference,
        "manifest_digest": image.manifest_digest,
        "bootstrap_digest": image.bootstrap_digest,
        "total_bytes": image.total_bytes,
        "local_bytes": image.local_bytes,
        "needed_bytes": image.needed_bytes,
        "disk_bytes": image.disk_bytes,
        "cache_error_count": image.cache_error_count,
        "checked_bytes": image.checked_bytes,
        "fetched_bytes": image.fetched_bytes,
        "demand_bytes": image.demand_bytes,
        "hint_bytes": image.hint_bytes,
        "fill_bytes": image.fill_bytes,
        "blocked_microseconds": image.blocked_microseconds,
        "request_count": image.request_count,
        "read_error_count": image.read_error_count,
        "mount_count": image.mount_count,
        "served_since_unix_seconds": image.served_since_unix_seconds,
        "data_path": data_path(image.data_path()),
        "data_path_reason": image.data_path_reason,
    })
}
