//! The tree that is read: the same on every run, as files on ext4 and as an image with one layer.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::image::layer::{Entry, Kind};
use crate::image::layout::{Compression, Layout};
use crate::scene::Scene;

/// Name of the image in its layout folder.
pub const TAG: &str = "datapath:1";
/// Large files, one for each sample of a cold case.
pub const LARGE_COUNT: usize = 5;
/// Bytes of a large file.
pub const LARGE_LEN: usize = 96 << 20;
/// Folders of small files.
pub const FOLDER_COUNT: usize = 200;
/// Small files in a folder.
pub const SMALL_COUNT: usize = 100;
/// Further files of each folder, which are only listed and looked at.
const LISTED_COUNT: usize = 150;
/// Bytes of a small file go up to this.
const SMALL_LEN_MAX: usize = 8192;

/// The tree.
#[derive(Debug)]
pub struct Sample {
    /// As files.
    pub native: PathBuf,
    /// As an image.
    pub layout: PathBuf,
}

/// Path of a large file.
pub fn large(number: usize) -> String {
    format!("large/{number}")
}

/// Path of a folder of small files.
pub fn folder(number: usize) -> String {
    format!("small/{number:03}")
}

/// Path of a small file in a folder.
pub fn small(folder_number: usize, number: usize) -> String {
    format!("{}/read-{number:03}", folder(folder_number))
}

/// Makes both forms.
pub fn make(scene: &Scene) -> Result<Sample> {
    let native = scene.folder("native")?;
    let layout_dir = scene.dir().join("layout");
    let mut layout = Layout::create(&layout_dir)?;
    let layer = layout.layer(Compression::None, |tar| {
        let mut put = |path: &str, content: Option<&[u8]>| {
            write(&native.join(path), content)?;
            let kind = content.map_or(Kind::Directory, Kind::File);
            tar.append(&Entry::new(path, kind))
        };
        put("large", None)?;
        put("small", None)?;
        let mut noise = Noise(1);
        for number in 0..FOLDER_COUNT {
            put(&folder(number), None)?;
            for file in 0..SMALL_COUNT {
                let len = 1 + noise.next() as usize % SMALL_LEN_MAX;
                put(&small(number, file), Some(&noise.bytes(len)))?;
            }
            for file in 0..LISTED_COUNT {
                put(&format!("{}/seen-{file:03}", folder(number)), Some(b"seen"))?;
            }
        }
        for number in 0..LARGE_COUNT {
            put(&large(number), Some(&noise.bytes(LARGE_LEN)))?;
        }
        Ok(())
    })?;
    layout.image(TAG, &[layer], &["/bin/true"])?;
    Ok(Sample {
        native,
        layout: layout_dir,
    })
}

fn write(path: &Path, content: Option<&[u8]>) -> Result<()> {
    let made = match content {
        None => fs::create_dir(path),
        Some(content) => File::create_new(path).and_then(|mut file| file.write_all(content)),
    };
    made.with_context(|| format!("make {}", path.display()))
}

/// Numbers that do not compress (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
