//! One layer on its own, as the bootstrap inside its blob shows it: whiteouts are files.

use rafs::Tree;
use rafs::tree::{Attr, ChunkId};

use super::Overlay;
use crate::error::LayerError;
use crate::layer::{Action, Change, Content};
use crate::name::CleanPath;

/// The file system of a layer alone. `chunks` tells, by slot, which chunk of the layer's blob it is.
///
/// Refuses layers that only make sense over others: hard links to files of lower layers.
pub fn single(changes: &[Change], chunks: &[ChunkId]) -> Result<Tree, LayerError> {
    let changes: Vec<Change> = changes.iter().map(literal).collect();
    let mut overlay = Overlay::default();
    overlay.apply(&changes, chunks)?;
    Ok(overlay.finish())
}

fn literal(change: &Change) -> Change {
    let path = match change.action {
        Action::Whiteout => change.path.whiteout(),
        Action::Opaque => change.path.opaque(),
        Action::Put { .. } | Action::Link { .. } => return change.clone(),
    };
    Change {
        path,
        action: marker(),
        offset: change.offset,
    }
}

/// The empty file that a whiteout is. What its archive says of owner and time has no meaning.
fn marker() -> Action {
    Action::Put {
        attr: Attr {
            permissions: 0o444,
            ..Attr::default()
        },
        content: Content::Regular { size: 0, slots: 0..0 },
    }
}

impl CleanPath {
    /// The whiteout that hides this path.
    fn whiteout(&self) -> CleanPath {
        match self.split() {
            Some((parent, name)) => CleanPath::join(parent, &[b".wh.", name].concat()),
            // No whiteout names the root.
            None => self.clone(),
        }
    }

    /// The whiteout of all that lower layers have in this directory.
    fn opaque(&self) -> CleanPath {
        CleanPath::join(self.as_bytes(), b".wh..wh..opq")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer;
    use crate::tarball::Reader;

    fn changes(names: &[&str]) -> Vec<Change> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            match name.split_once('>') {
                Some((name, target)) => {
                    header.set_entry_type(tar::EntryType::Link);
                    tar.append_link(&mut header, name, target).unwrap();
                }
                None => tar.append_data(&mut header, name, &b""[..]).unwrap(),
            }
        }
        let bytes = tar.into_inner().unwrap();
        let budget = layer::Budget::default();
        layer::read(&mut Reader::new(&bytes[..]), 4096, &budget, |_| Ok(())).unwrap()
    }

    #[test]
    fn whiteouts_stay() {
        let tree = single(&changes(&["a/.wh.b", "a/.wh..wh..opq", "a/c", ".wh.d"]), &[]).unwrap();
        let names = |id| tree.names(id).unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(Tree::ROOT), [b".wh.d".to_vec(), b"a".to_vec()]);
        let a = tree.names(Tree::ROOT).unwrap()[&b"a"[..]];
        let wanted: [&[u8]; 3] = [b".wh..wh..opq", b".wh.b", b"c"];
        assert_eq!(names(a), wanted);
    }

    #[test]
    fn links_into_lower_layers_are_refused() {
        assert!(single(&changes(&["a", "b>a"]), &[]).is_ok());
        let error = single(&changes(&["b>a"]), &[]).unwrap_err();
        assert!(matches!(error, LayerError::Entry { .. }), "{error}");
    }
}
