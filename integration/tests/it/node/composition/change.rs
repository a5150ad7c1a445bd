//! What programs do to a container's files, call by call.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Result, Write};
use std::os::unix::fs::{
    DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink,
};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};

/// Somebody else than root.
const USER: u32 = 1000;

type Change = fn(&Path) -> Result<String>;

/// Each call by its name. They are done in this order, on a tree that begins as the image.
const CHANGES: [(&str, Change); 31] = [
    ("append copies up", append),
    ("truncate on open", truncate),
    ("grow and punch", |root| {
        File::options()
            .write(true)
            .open(root.join("large"))?
            .set_len(3 << 20)?;
        Ok(fs::metadata(root.join("large"))?.len().to_string())
    }),
    ("chmod", |root| {
        fs::set_permissions(root.join("mode"), Permissions::from_mode(0o4711))?;
        mode(&root.join("mode"))
    }),
    ("chown", |root| {
        chown(root.join("owner"), Some(8), Some(9))?;
        Ok(fs::metadata(root.join("owner"))?.gid().to_string())
    }),
    ("chown of a link", |root| {
        lchown(root.join("symlink"), Some(8), Some(9))?;
        Ok(fs::symlink_metadata(root.join("symlink"))?.uid().to_string())
    }),
    ("chown takes setuid away", |root| {
        chown(root.join("setgid"), Some(3), None)?;
        mode(&root.join("setgid"))
    }),
    ("a write takes the capability away", |root| {
        OpenOptions::new()
            .append(true)
            .open(root.join("capable"))?
            .write_all(b"x")?;
        attribute(root, "capable", "security.capability")
    }),
    ("hard links and copying up", hard_links),
    ("link to a lower file", |root| {
        fs::hard_link(root.join("unlink"), root.join("linked"))?;
        Ok(fs::metadata(root.join("linked"))?.nlink().to_string())
    }),
    ("unlink", |root| {
        fs::remove_file(root.join("unlink"))?;
        Ok(root.join("unlink").exists().to_string())
    }),
    ("rename over a lower file", |root| {
        fs::write(root.join("fresh"), "fresh")?;
        fs::rename(root.join("fresh"), root.join("over"))?;
        fs::read_to_string(root.join("over"))
    }),
    ("rename a lower file over another", |root| {
        fs::rename(root.join("over"), root.join("onto"))?;
        fs::read_to_string(root.join("onto"))
    }),
    ("exchange two lower names", |root| {
        let [one, two] = ["three", "map"].map(|name| root.join(name));
        renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE)?;
        fs::read_to_string(root.join("three"))
    }),
    ("rename a lower directory", |root| {
        fs::rename(root.join("tree"), root.join("moved"))?;
        names(&root.join("moved"))
    }),
    ("rename a directory of its own", |root| {
        fs::create_dir(root.join("own"))?;
        fs::rename(root.join("own"), root.join("mine"))?;
        names(root)
    }),
    ("rmdir of a directory that is not empty", |root| {
        fs::remove_dir(root.join("full")).map(|()| String::new())
    }),
    ("remove and make a directory again", |root| {
        fs::remove_dir_all(root.join("full"))?;
        fs::DirBuilder::new().mode(0o700).create(root.join("full"))?;
        fs::write(root.join("full/new"), "new")?;
        names(&root.join("full"))
    }),
    ("remove a tree and put a file in its place", |root| {
        fs::remove_dir_all(root.join("tree"))?;
        fs::write(root.join("tree"), "a file")?;
        fs::read_to_string(root.join("tree"))
    }),
    ("a link in a removed file's place", |root| {
        fs::remove_file(root.join("symlink"))?;
        symlink("elsewhere", root.join("symlink"))?;
        Ok(fs::read_link(root.join("symlink"))?.display().to_string())
    }),
    ("a device in a removed file's place", |root| {
        fs::remove_file(root.join("null"))?;
        make_device(&root.join("null"), 1, 3)?;
        Ok(fs::symlink_metadata(root.join("null"))?.rdev().to_string())
    }),
    ("a node that looks like a whiteout", |root| {
        make_device(&root.join("not-there"), 0, 0)?;
        names(root)
    }),
    ("devices work", |root| {
        let mut zeros = [1; 4];
        File::open(root.join("zero"))?.read_exact(&mut zeros)?;
        Ok(format!("{zeros:?}"))
    }),
    ("kinds", |root| {
        let kind = |name: &str| fs::symlink_metadata(root.join(name)).map(|meta| meta.file_type());
        Ok(format!(
            "{} {}",
            kind("block")?.is_block_device(),
            kind("fifo")?.is_fifo()
        ))
    }),
    ("setuid programs", setuid),
    ("user attributes", |root| {
        set(root, "noted", "user.more", b"more")?;
        xattr::remove(root.join("noted"), "user.note")?;
        Ok(attribute(root, "noted", "user.note")? + &attribute(root, "noted", "trusted.note")?)
    }),
    ("attributes of a directory", |root| {
        set(root, "noted-dir", "trusted.more", b"more")?;
        attribute(root, "noted-dir", "trusted.more")
    }),
    ("overlayfs's own attributes", |root| {
        set(root, "noted-dir", "trusted.overlay.opaque", b"y")?;
        attribute(root, "noted-dir", "trusted.overlay.opaque")
    }),
    ("hold open what is removed", |root| {
        let file = File::open(root.join("one"))?;
        fs::remove_file(root.join("one"))?;
        let mut text = String::new();
        (&file).read_to_string(&mut text)?;
        Ok(format!("{text} {}", file.metadata()?.nlink()))
    }),
    ("O_EXCL on a lower name", |root| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(root.join("two")).map(|_| String::new())
    }),
    ("the root", |root| {
        let above = root.parent().expect("a folder in the image");
        fs::write(above.join("written"), "in the root")?;
        mode(above)
    }),
];

fn make_device(path: &Path, major: u32, minor: u32) -> Result<()> {
    let device = makedev(major, minor);
    Ok(mknodat(
        CWD,
        path,
        FileType::CharacterDevice,
        Mode::from(0o666),
        device,
    )?)
}

/// Makes all changes in a container's root and tells of each how it ended.
pub(super) fn all(root: &Path) -> Vec<(&'static str, String)> {
    let folder = root.join("work");
    let outcome = |change: Change| match change(&folder) {
        Ok(text) => text,
        // Kinds and numbers are the same everywhere, texts name paths.
        Err(error) => format!("errno {:?}", error.raw_os_error()),
    };
    CHANGES
        .iter()
        .map(|(name, change)| (*name, outcome(*change)))
        .collect()
}

fn append(root: &Path) -> Result<String> {
    let before = File::open(root.join("append"))?;
    OpenOptions::new()
        .append(true)
        .open(root.join("append"))?
        .write_all(b" more")?;
    let mut old = [0; 64];
    let len = before.read_at(&mut old, 0)?;
    Ok(format!("{} {len}", fs::read_to_string(root.join("append"))?))
}

fn truncate(root: &Path) -> Result<String> {
    File::create(root.join("truncate"))?.write_all(b"x")?;
    fs::read_to_string(root.join("truncate"))
}

fn hard_links(root: &Path) -> Result<String> {
    fs::write(root.join("two"), "changed")?;
    let meta = |name: &str| fs::metadata(root.join(name));
    Ok(format!(
        "{} {} {} {}",
        fs::read_to_string(root.join("one"))?,
        meta("one")?.nlink(),
        meta("two")?.nlink(),
        meta("one")?.ino() == meta("two")?.ino(),
    ))
}

/// Whom programs run as that somebody else starts.
fn setuid(root: &Path) -> Result<String> {
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    fs::set_permissions(
        root.parent().expect("a folder in the image"),
        Permissions::from_mode(0o755),
    )?;
    let mut said = String::new();
    for name in ["setuid", "setgid"] {
        let output = Command::new(root.join(name))
            .arg("-un")
            .uid(USER)
            .gid(USER)
            .output()?;
        said += &String::from_utf8_lossy(&output.stdout);
    }
    Ok(said)
}

fn mode(path: &Path) -> Result<String> {
    Ok(format!("{:o}", fs::symlink_metadata(path)?.mode()))
}

fn names(dir: &Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}

fn set(root: &Path, name: &str, attribute: &str, value: &[u8]) -> Result<()> {
    xattr::set(root.join(name), attribute, value)
}

fn attribute(root: &Path, name: &str, attribute: &str) -> Result<String> {
    let value = xattr::get(root.join(name), attribute)?;
    Ok(format!(
        "{:?}",
        value.map(|value| value.escape_ascii().to_string())
    ))
}
