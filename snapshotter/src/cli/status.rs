//! `slipwayd status`.

use bytesize::ByteSize;
use proto::control::{Cache, ImagesRequest, StatusRequest};
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
    let cache = status.cache.unwrap_or_default();
    if format.json {
        return printer::json(&json!({
            "version": status.version,
            "pid": status.pid,
            "start": status.start,
            "uptime_seconds": status.uptime_seconds,
            "data_path": data_path,
            "data_path_reason": status.data_path_reason,
            "fuse_mountpoint": status.fuse_mountpoint,
            "state_root": status.state_root,
            "snapshot_count": status.snapshot_count,
            "cache": {
                "used_bytes": cache.used_bytes,
                "max_bytes": cache.max_bytes,
                "free_bytes": cache.free_bytes,
                "evicted_bytes": cache.evicted_bytes,
                "refused_bytes": cache.refused_bytes,
                "write_error_count": cache.write_error_count,
            },
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
        ("cache", cache_line(&cache)),
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

/// How full the cache is, and what it could not do.
fn cache_line(cache: &Cache) -> String {
    let bytes = |len: u64| ByteSize::b(len).display().iec().to_string();
    let mut line = bytes(cache.used_bytes);
    if cache.max_bytes > 0 {
        line = format!("{line} of {}", bytes(cache.max_bytes));
    }
    line = format!("{line}, {} free on the disk", bytes(cache.free_bytes));
    for (len, what) in [
        (cache.evicted_bytes, "evicted"),
        (cache.refused_bytes, "not kept for lack of room"),
    ] {
        if len > 0 {
            line = format!("{line}, {} {what}", bytes(len));
        }
    }
    match cache.write_error_count {
        0 => line,
        count => format!("{line}; {count} WRITE ERRORS, served without caching: look at the disk"),
    }
}

/// The word for a data path.
pub(super) fn data_path(data_path: proto::control::DataPath) -> &'static str {
    match data_path {
        proto::control::DataPath::Unspecified => "unknown",
        proto::control::DataPath::Erofs => "erofs",
        proto::control::DataPath::Fuse => "fuse",
    }
}
