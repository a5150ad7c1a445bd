//! A file system in memory: inodes by number, names in directories. What a writer starts from.

use std::collections::BTreeMap;

use crate::chunk::BlobIndex;

/// The seven kinds of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

/// A modification time: seconds since 1970 (negative before), nanoseconds 0..1e9 forward from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// Number of an inode in a [`Tree`]. Hard links are several names of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(pub u32);

/// One chunk of a file: a blob and the chunk's number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkId {
    /// The blob.
    pub blob: BlobIndex,
    /// The chunk's number within the blob.
    pub index: u32,
}

/// What all inodes have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Permission bits with setuid, setgid and sticky: 0..=0o7777.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Extended attributes by full name, such as `user.note`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What differs by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Names to inodes, without `.` and `..`.
    Directory(BTreeMap<Vec<u8>, InodeId>),
    /// Size in bytes and one chunk per `chunk_size` bytes begun.
    Regular {
        /// Bytes.
        size: u64,
        /// Chunks in file order.
        chunks: Vec<ChunkId>,
    },
    /// The target as written.
    Symlink(Vec<u8>),
    /// Device, FIFO or socket, with its `dev_t` in Linux's 32-bit encoding (0 for FIFO and socket).
    Special {
        /// One of CharDevice, BlockDevice, Fifo, Socket.
        file_type: FileType,
        /// Encoded device number.
        rdev: u32,
    },
}

/// One inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What all have.
    pub attr: Attr,
    /// What differs.
    pub content: Content,
}

/// A whole file system. Inode 0 is the root directory. Unlinked inodes may linger; writers skip what no name reaches.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// The root's number.
    pub const ROOT: InodeId = InodeId(0);

    /// Creates a file system that holds only a root directory.
    pub fn new(root: Attr) -> Self {
        Tree {
            nodes: vec![Node {
                attr: root,
                content: Content::Directory(BTreeMap::new()),
            }],
        }
    }

    /// Adds an inode that no name points to yet.
    pub fn add(&mut self, node: Node) -> InodeId {
        let id = InodeId(u32::try_from(self.nodes.len()).expect("a tree holds fewer than 2^32 inodes"));
        self.nodes.push(node);
        id
    }

    /// How many inodes there are, unlinked ones included.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Looks at an inode. The number must come from this tree.
    pub fn node(&self, id: InodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Changes an inode. The number must come from this tree.
    pub fn node_mut(&mut self, id: InodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The names of a directory, or `None` for another kind of inode.
    pub fn names(&self, id: InodeId) -> Option<&BTreeMap<Vec<u8>, InodeId>> {
        match &self.node(id).content {
            Content::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// The names of a directory to change, or `None` for another kind of inode.
    pub fn names_mut(&mut self, id: InodeId) -> Option<&mut BTreeMap<Vec<u8>, InodeId>> {
        match &mut self.node_mut(id).content {
            Content::Directory(names) => Some(names),
            _ => None,
        }
    }
}

impl Node {
    /// The inode's kind.
    pub fn file_type(&self) -> FileType {
        match &self.content {
            Content::Directory(_) => FileType::Directory,
            Content::Regular { .. } => FileType::Regular,
            Content::Symlink(_) => FileType::Symlink,
            Content::Special { file_type, .. } => *file_type,
        }
    }
}

impl FileType {
    /// The kind's bits in a mode, as `stat` gives them (`S_IFMT`).
    pub fn mode_bits(self) -> u16 {
        match self {
            FileType::Regular => 0o100_000,
            FileType::Directory => 0o040_000,
            FileType::CharDevice => 0o020_000,
            FileType::BlockDevice => 0o060_000,
            FileType::Fifo => 0o010_000,
            FileType::Socket => 0o140_000,
            FileType::Symlink => 0o120_000,
        }
    }

    /// The kind in a mode; `None` for bits that name none.
    pub fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => FileType::Regular,
            0o040_000 => FileType::Directory,
            0o020_000 => FileType::CharDevice,
            0o060_000 => FileType::BlockDevice,
            0o010_000 => FileType::Fifo,
            0o140_000 => FileType::Socket,
            0o120_000 => FileType::Symlink,
            _ => return None,
        })
    }

    /// The kind's number in directory entries.
    pub(crate) fn to_disk(self) -> u8 {
        match self {
            FileType::Regular => 1,
            FileType::Directory => 2,
            FileType::CharDevice => 3,
            FileType::BlockDevice => 4,
            FileType::Fifo => 5,
            FileType::Socket => 6,
            FileType::Symlink => 7,
        }
    }

    /// The kind with a number in directory entries.
    pub(crate) fn from_disk(number: u8) -> Option<Self> {
        Some(match number {
            1 => FileType::Regular,
            2 => FileType::Directory,
            3 => FileType::CharDevice,
            4 => FileType::BlockDevice,
            5 => FileType::Fifo,
            6 => FileType::Socket,
            7 => FileType::Symlink,
            _ => return None,
        })
    }
}
