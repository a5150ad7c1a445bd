//! Every key with its meaning. The sample file and the table in the documentation are made from this and from the
//! defaults, so that they cannot tell different stories.

use std::fmt::Write;

use super::Config;

/// A documented key.
struct Key {
    /// Section and key, joined by a dot.
    name: &'static str,
    /// What it does, in one or two sentences.
    meaning: &'static str,
    /// Shown when the default is "not set".
    example: Option<&'static str>,
}

const KEYS: &[Key] = &[
    Key {
        name: "root",
        meaning: "Folder of all lasting state: store, snapshots, chunk cache. ext4, xfs or btrfs. \
                  containerd 1.6 reports disk use only from the default place.",
        example: None,
    },
    Key {
        name: "run_dir",
        meaning: "Folder of the sockets and of the mounts. A reboot may empty it.",
        example: None,
    },
    Key {
        name: "address",
        meaning: "Socket containerd connects to. Not set: slipwayd.sock in run_dir.",
        example: Some("\"/run/slipway/slipwayd.sock\""),
    },
    Key {
        name: "data_path",
        meaning: "Which way images reach the kernel: erofs (mounts of the kernel's EROFS, which needs Linux 6.12), \
                  fuse, or auto (erofs where it works, found out by mounting a test image at start, else fuse).",
        example: None,
    },
    Key {
        name: "overlay.userxattr",
        meaning: "Whether overlayfs keeps its marks in user.overlay.* attributes: on, off, or auto (where slipwayd runs in \
                  a user namespace).",
        example: None,
    },
    Key {
        name: "overlay.remap_ids",
        meaning: "Whether root file systems of containers in user namespaces get mapped ids instead of copies with other \
                  owners. Needs containerd 2, told of it (`slipwayd containerd-config` then prints the capability), and \
                  Linux 6.12.",
        example: None,
    },
    Key {
        name: "log.level",
        meaning: "Least severe level that is logged: error, warn, info, debug or trace.",
        example: None,
    },
    Key {
        name: "log.format",
        meaning: "Shape of log lines: text, or json (one object a line).",
        example: None,
    },
    Key {
        name: "fuse.threads",
        meaning: "Threads that answer the kernel's requests, 1 to 64. Fetches run elsewhere.",
        example: None,
    },
    Key {
        name: "fuse.read_deadline",
        meaning: "How long a read waits for bytes from the registry before it fails with EIO. \
                  The next read tries again.",
        example: None,
    },
    Key {
        name: "fetch.fill",
        meaning: "Whether an image becomes complete in the background once a container uses it: auto (as fast as the \
                  line allows while nothing more urgent waits), off, or a rate for all images together, \
                  such as \"50MiB/s\".",
        example: None,
    },
    Key {
        name: "fetch.fill_free_min",
        meaning: "Filling stops while the disk of the cache has less than this free. Readers still get what they ask for.",
        example: None,
    },
    Key {
        name: "fetch.stores",
        meaning: "Places that are asked for blobs before the registry, in this order: dir:/FOLDER, https://HOST/FOLDER/, or \
                  s3://BUCKET/PREFIX?region=REGION&endpoint=URL. Blobs are named there by the hex digits of their digest.",
        example: None,
    },
    Key {
        name: "cache.size_max",
        meaning: "Most disk space of the chunk cache: a size such as \"64GiB\", a share of its file system such as \
                  \"80%\", or off. What was read longest ago goes first, images without containers before others.",
        example: None,
    },
    Key {
        name: "cache.free_min",
        meaning: "The chunk cache gives back what was read longest ago while its disk has less than this free.",
        example: None,
    },
    Key {
        name: "registry.plain_http",
        meaning: "Registries, as \"host:port\", that are reached without TLS. Loopback hosts need no entry.",
        example: None,
    },
    Key {
        name: "registry.hosts_dir",
        meaning: "Folder with a hosts.toml per registry, as containerd reads them: mirrors, certificates, headers. \
                  It may be absent; empty means that none is read.",
        example: None,
    },
    Key {
        name: "registry.pull_secrets_dir",
        meaning: "Folder of Kubernetes pull secrets: *.json, .dockerconfigjson, and .dockerconfigjson in folders within. \
                  Read each time a registry asks for a login; empty means none.",
        example: None,
    },
    Key {
        name: "registry.credential_providers",
        meaning: "The kubelet's file of credential providers (its --image-credential-provider-config), whose programs are \
                  asked when a registry asks for a login; empty means none.",
        example: None,
    },
    Key {
        name: "registry.credential_provider_dir",
        meaning: "Folder of those programs (the kubelet's --image-credential-provider-bin-dir).",
        example: None,
    },
    Key {
        name: "registry.cri_image_socket",
        meaning: "Socket on which the CRI's image service is passed on to containerd, for the kubelet's \
                  --image-service-endpoint: what it pulls an image with is used for the image's data, too. Empty means none.",
        example: None,
    },
    Key {
        name: "registry.cri_containerd",
        meaning: "Socket of the containerd to which the CRI's image service is passed on.",
        example: None,
    },
];

/// Columns of a comment in the sample.
const COMMENT_LEN_MAX: usize = 100;

/// The commented sample file: every key with its default. Reading it gives the defaults.
pub fn sample() -> String {
    let defaults = defaults();
    let mut text = String::from(
        "# Slipway's configuration: /etc/slipway/config.toml. Unknown keys are refused.\n\
         # Durations are written \"30s\". The command line and the environment (SLIPWAY_*) take precedence.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (own_section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        text.push('\n');
        if own_section != section {
            section = own_section;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "[{section}]");
        }
        for line in wrap(key.meaning) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = match (lookup(&defaults, key.name), key.example) {
            (Some(value), _) => writeln!(text, "{name} = {value}"),
            (None, example) => writeln!(text, "# {name} = {}", example.unwrap_or("...")),
        };
    }
    text
}

/// The table of keys, in Markdown.
pub fn reference_table() -> String {
    let defaults = defaults();
    let mut text = String::from("| key | default | meaning |\n|---|---|---|\n");
    for key in KEYS {
        let default =
            lookup(&defaults, key.name).map_or_else(|| "not set".to_owned(), |value| format!("`{value}`"));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | {default} | {} |", key.name, key.meaning);
    }
    text
}

fn defaults() -> toml::Table {
    toml::Table::try_from(Config::default()).expect("the defaults are plain strings, numbers and lists")
}

fn lookup(table: &toml::Table, name: &str) -> Option<toml::Value> {
    match name.split_once('.') {
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
        None => table.get(name).cloned(),
    }
}

fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= COMMENT_LEN_MAX => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    KEYS.iter().map(|key| key.name).collect()
}
