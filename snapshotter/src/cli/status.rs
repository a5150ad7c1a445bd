//! `slipwayd status`.

use proto::control::{ImagesRequest, StatusRequest};
use serde_json::json;
use snapshotter::layout::Layout;

use super::images;
use super::printer::{self, Format};
use super::runtime;
use super::settings::Settings;

/// Asks the daemon and prints its answer.
pub(super) fn run(settings: &Settings, format: Format) -> anyhow::Result<()> {
    let config = settings.config()?;
    let control = Layout::new(&config.root, &config.run_dir).control();
    let (status, images) = runtime()?.block_on(async {
        let mut client = proto::control::connect(&control).await?;
        let status = client.status(StatusRequest {}).await?.into_inner();
        anyhow::Ok((status, client.images(ImagesRequest {}).await?.into_inner().images))
    })?;
    let data_path = data_path(status.data_path());
    if format.json {
        return printer::json(&json!({
            "version": status.version,
            "pid": status.pid,
            "uptime_seconds": status.uptime_seconds,
            "data_path": data_path,
            "data_path_reason": status.data_path_reason,
            "fuse_mountpoint": status.fuse_mountpoint,
            "state_root": status.state_root,
            "snapshot_count": status.snapshot_count,
            "images": images.iter().map(images::as_json).collect::<Vec<_>>(),
        }));
    }
    let uptime = std::time::Duration::from_secs(status.uptime_seconds);
    let rows = [
        ("version", status.version.clone()),
        ("pid", status.pid.to_string()),
        ("uptime", humantime::format_duration(uptime).to_string()),
        ("data path", format!("{data_path} ({})", status.data_path_reason)),
        ("mount", status.fuse_mountpoint.clone()),
        ("root", status.state_root.clone()),
        ("snapshots", status.snapshot_count.to_string()),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let mut text = printer::table(&rows);
    if !images.is_empty() {
        text.push('\n');
        text.push_str(&images::table(&images));
    }
    printer::data(&text)
}

/// The word for a data path.
pub(super) fn data_path(data_path: proto::control::DataPath) -> &'static str {
    match data_path {
        proto::control::DataPath::Unspecified => "unknown",
        proto::control::DataPath::Erofs => "erofs",
        proto::control::DataPath::Fuse => "fuse",
    }
}
