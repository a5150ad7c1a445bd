//! `slipwayd images`.

use bytesize::ByteSize;
use proto::control::{Image, ImagesRequest};
use serde_json::json;
use snapshotter::layout::Layout;

use super::printer::{self, Format};
use super::runtime;
use super::settings::Settings;

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
    let heading = [
        "ID",
        "IMAGE",
        "LOCAL",
        "TOTAL",
        "FETCHED",
        "REQUESTS",
        "READ ERRORS",
        "MOUNTS",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(images.iter().map(as_row));
    printer::data(&printer::table(&rows))
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
    vec![
        image.id.to_string(),
        image.reference.clone(),
        bytes(image.local_bytes),
        bytes(image.total_bytes),
        bytes(image.fetched_bytes),
        known(image.request_count.to_string()),
        known(image.read_error_count.to_string()),
        image.mount_count.to_string(),
    ]
}

fn as_json(image: &Image) -> serde_json::Value {
    json!({
        "id": image.id,
        "reference": image.reference,
        "manifest_digest": image.manifest_digest,
        "bootstrap_digest": image.bootstrap_digest,
        "total_bytes": image.total_bytes,
        "local_bytes": image.local_bytes,
        "fetched_bytes": image.fetched_bytes,
        "request_count": image.request_count,
        "read_error_count": image.read_error_count,
        "mount_count": image.mount_count,
        "served_since_unix_seconds": image.served_since_unix_seconds,
    })
}
