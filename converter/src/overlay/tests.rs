//! The rules one by one.

use rafs::Timestamp;

use super::*;

mod model;

/// A layer, written as it would be listed.
#[derive(Default)]
struct Layer(Vec<Change>);

impl Layer {
    fn push(mut self, path: &str, action: Action) -> Self {
        self.0.push(Change {
            path: clean(path),
            action,
            offset: 0,
        });
        self
    }

    fn put(self, path: &str, mark: u32, content: Content) -> Self {
        self.push(
            path,
            Action::Put {
                attr: attr(mark),
                content,
            },
        )
    }

    fn file(self, path: &str, mark: u32) -> Self {
        self.put(path, mark, Content::Regular { size: 0, slots: 0..0 })
    }

    fn dir(self, path: &str, mark: u32) -> Self {
        self.put(path, mark, Content::Directory)
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.put(path, 0, Content::Symlink(target.into()))
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.push(
            path,
            Action::Link {
                target: clean(target),
            },
        )
    }

    fn whiteout(self, path: &str) -> Self {
        self.push(path, Action::Whiteout)
    }

    fn opaque(self, path: &str) -> Self {
        self.push(path, Action::Opaque)
    }
}

fn clean(path: &str) -> CleanPath {
    CleanPath::clean(path.as_bytes())
}

/// Attributes told apart by the owner.
fn attr(mark: u32) -> Attr {
    Attr {
        permissions: 0o700,
        uid: mark,
        mtime: Timestamp { secs: 1, nanos: 2 },
        ..Attr::default()
    }
}

fn merge(layers: &[Layer]) -> Result<Tree, LayerError> {
    let mut overlay = Overlay::default();
    for layer in layers {
        overlay.apply(&layer.0, &[])?;
    }
    Ok(overlay.finish())
}

/// Every path with its inode, `/` behind directories; a name's owner is its mark.
fn paths(tree: &Tree) -> BTreeMap<String, InodeId> {
    fn visit(tree: &Tree, dir: InodeId, prefix: &str, all: &mut BTreeMap<String, InodeId>) {
        for (name, id) in tree.names(dir).unwrap() {
            let path = format!("{prefix}{}", String::from_utf8_lossy(name));
            match tree.names(*id) {
                Some(_) => {
                    all.insert(format!("{path}/"), *id);
                    visit(tree, *id, &format!("{path}/"), all);
                }
                None => drop(all.insert(path, *id)),
            }
        }
    }
    let mut all = BTreeMap::new();
    visit(tree, Tree::ROOT, "", &mut all);
    all
}

/// The merged paths with marks, in one line.
fn shown(layers: &[Layer]) -> String {
    let tree = merge(layers).unwrap();
    let marked = |(path, id): (&String, &InodeId)| format!("{path}={}", tree.node(*id).attr.uid);
    paths(&tree).iter().map(marked).collect::<Vec<_>>().join(" ")
}

fn problem(layers: &[Layer]) -> Problem {
    match merge(layers) {
        Err(LayerError::Entry { problem, .. }) => problem,
        other => panic!("no problem with an entry: {other:?}"),
    }
}

fn base() -> Layer {
    Layer::default()
        .dir("d", 1)
        .file("d/a", 2)
        .file("d/b", 3)
        .dir("e", 4)
}

#[test]
fn whiteout_hides_the_lower_name_wherever_it_stands() {
    assert_eq!(
        shown(&[base(), Layer::default().whiteout("d/a")]),
        "d/=1 d/b=3 e/=4"
    );
    assert_eq!(shown(&[base(), Layer::default().whiteout("d")]), "e/=4");
    let before = Layer::default().whiteout("d/a").file("d/a", 9);
    let after = Layer::default().file("d/a", 9).whiteout("d/a");
    for layer in [before, after] {
        assert_eq!(shown(&[base(), layer]), "d/=1 d/a=9 d/b=3 e/=4");
    }
}

#[test]
fn whiteout_and_a_new_folder_of_the_same_name_hide_the_lower_content() {
    for layer in [
        Layer::default().whiteout("d").dir("d", 9),
        Layer::default().dir("d", 9).whiteout("d"),
    ] {
        assert_eq!(shown(&[base(), layer]), "d/=9 e/=4");
    }
}

#[test]
fn whiteout_under_an_unlisted_parent_keeps_the_parents_attributes() {
    let mut lower = base();
    let Action::Put { attr, .. } = &mut lower.0[0].action else {
        unreachable!()
    };
    attr.xattrs.insert(b"user.note".to_vec(), b"kept".to_vec());
    let tree = merge(&[lower, Layer::default().whiteout("d/a").whiteout("d/b")]).unwrap();
    let dir = &tree.node(paths(&tree)["d/"]).attr;
    assert_eq!(
        (dir.uid, dir.permissions, &dir.xattrs[&b"user.note"[..]][..]),
        (1, 0o700, &b"kept"[..])
    );
    assert!(!paths(&tree).contains_key("d/a"));
}

#[test]
fn whiteouts_in_folders_that_are_nowhere_make_the_folder() {
    assert_eq!(
        shown(&[base(), Layer::default().whiteout("x/y/z")]),
        "d/=1 d/a=2 d/b=3 e/=4 x/=0 x/y/=0"
    );
}

#[test]
fn whiteouts_through_links_hold_where_the_layers_own_link_leads() {
    let lower = || Layer::default().dir("d", 1).file("d/a", 2).symlink("l", "d");
    for layer in [
        Layer::default().symlink("l", "d").whiteout("l/a"),
        Layer::default().whiteout("l/a").symlink("l", "../d"),
    ] {
        assert_eq!(shown(&[lower(), layer]), "d/=1 l=0");
    }
    // The lower layer's link gives way to a folder, which has nothing to hide.
    assert_eq!(
        shown(&[lower(), Layer::default().whiteout("l/a")]),
        "d/=1 d/a=2 l/=1"
    );
    assert_eq!(shown(&[lower(), Layer::default().opaque("l")]), "d/=1 d/a=2 l/=1");
}

#[test]
fn opaque_hides_lower_content_only_and_keeps_the_directory() {
    let after = Layer::default().file("d/c", 9).opaque("d");
    let before = Layer::default().opaque("d").file("d/c", 9);
    for layer in [after, before] {
        assert_eq!(shown(&[base(), layer]), "d/=1 d/c=9 e/=4");
    }
    assert_eq!(
        shown(&[base(), Layer::default().opaque("").file("new", 9)]),
        "new=9"
    );
}

#[test]
fn files_and_directories_replace_each_other() {
    assert_eq!(shown(&[base(), Layer::default().file("d", 9)]), "d=9 e/=4");
    assert_eq!(
        shown(&[base(), Layer::default().dir("d/a", 9).file("d/a/x", 8)]),
        "d/=1 d/a/=9 d/a/x=8 d/b=3 e/=4"
    );
    assert_eq!(
        shown(&[base(), Layer::default().dir("d", 9)]),
        "d/=9 d/a=2 d/b=3 e/=4"
    );
}

#[test]
fn the_last_of_duplicates_wins_and_links_keep_their_inode() {
    let layer = Layer::default().file("f", 1).link("g", "f").file("f", 2);
    assert_eq!(shown(&[layer]), "f=2 g=1");
    assert_eq!(
        shown(&[Layer::default().dir("d", 1).file("d/x", 2).dir("d", 3)]),
        "d/=3 d/x=2"
    );
    assert_eq!(
        shown(&[Layer::default().dir("d", 1).file("d/x", 2).file("d", 3)]),
        "d=3"
    );
}

#[test]
fn hard_links_reach_lower_layers_and_links() {
    let tree = merge(&[base(), Layer::default().link("d/c", "d/a").link("c2", "d/a")]).unwrap();
    let paths = paths(&tree);
    assert_eq!(paths["d/a"], paths["d/c"]);
    assert_eq!(paths["d/a"], paths["c2"]);
    let tree = merge(&[Layer::default().symlink("s", "nowhere").link("t", "s")]).unwrap();
    let paths = super::tests::paths(&tree);
    assert_eq!(paths["s"], paths["t"]);
}

#[test]
fn a_whiteout_of_one_name_leaves_the_others() {
    let lower = Layer::default().file("a", 1).link("b", "a").link("c", "a");
    let tree = merge(&[lower, Layer::default().whiteout("a")]).unwrap();
    let paths = paths(&tree);
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(paths["b"], paths["c"]);
}

#[test]
fn a_link_to_itself_changes_nothing() {
    assert_eq!(shown(&[Layer::default().file("f", 1).link("f", "f")]), "f=1");
}

#[test]
fn impossible_links_are_refused() {
    assert!(matches!(
        problem(&[base(), Layer::default().link("x", "nothing")]),
        Problem::LinkTargetMissing { .. }
    ));
    assert!(matches!(
        problem(&[base(), Layer::default().link("x", "../../gone")]),
        Problem::LinkTargetMissing { .. }
    ));
    assert!(matches!(
        problem(&[base(), Layer::default().link("x", "d")]),
        Problem::LinkToDirectory { .. }
    ));
    assert!(matches!(
        problem(&[base(), Layer::default().link("x", "..")]),
        Problem::LinkToDirectory { .. }
    ));
}

#[test]
fn parents_nobody_lists_are_made() {
    let tree = merge(&[Layer::default().file("a/b/c", 1)]).unwrap();
    let dir = &tree.node(paths(&tree)["a/b/"]).attr;
    assert_eq!(
        *dir,
        Attr {
            permissions: 0o755,
            ..Attr::default()
        }
    );
    assert_eq!(
        shown(&[Layer::default().file("a/b", 1).dir("a", 7)]),
        "a/=7 a/b=1"
    );
    assert_eq!(
        shown(&[Layer::default().file("a", 1), Layer::default().file("a/b", 2)]),
        "a/=0 a/b=2"
    );
    assert_eq!(
        problem(&[Layer::default().file("a", 1).file("a/b", 2)]),
        Problem::ParentNotDirectory
    );
}

#[test]
fn parents_that_are_links_of_the_layer_are_followed_inside_the_root() {
    let layer = || Layer::default().dir("usr", 1).dir("usr/lib", 2);
    let with = |target: &str| shown(&[layer().symlink("lib", target).file("lib/x", 9)]);
    assert_eq!(with("usr/lib"), "lib=0 usr/=1 usr/lib/=2 usr/lib/x=9");
    assert_eq!(with("/usr/lib"), with("usr/lib"));
    assert_eq!(with("../../usr/../../usr/lib"), with("usr/lib"));
    assert_eq!(
        with("made/../usr/lib"),
        "lib=0 made/=0 usr/=1 usr/lib/=2 usr/lib/x=9"
    );
    assert_eq!(with("/"), "lib=0 usr/=1 usr/lib/=2 x=9");
    assert_eq!(
        problem(&[Layer::default().symlink("lib", "lib").file("lib/x", 9)]),
        Problem::TooManyLinks { limit: 40 }
    );
}

#[test]
fn parents_that_are_links_of_a_lower_layer_give_way() {
    let lower = || {
        Layer::default()
            .dir("usr", 1)
            .dir("usr/lib", 2)
            .file("usr/lib/a", 3)
    };
    let with = |target: &str| shown(&[lower().symlink("lib", target), Layer::default().file("lib/x", 9)]);
    assert_eq!(with("usr/lib"), "lib/=2 lib/x=9 usr/=1 usr/lib/=2 usr/lib/a=3");
    assert_eq!(with("/usr/lib"), with("usr/lib"));
    for nowhere in ["nothing", "lib", "usr/lib/a"] {
        assert_eq!(with(nowhere), "lib/=0 lib/x=9 usr/=1 usr/lib/=2 usr/lib/a=3");
    }
}

#[test]
fn the_last_component_is_never_followed() {
    let lower = Layer::default().dir("d", 1).symlink("l", "d");
    assert_eq!(shown(&[lower, Layer::default().dir("l", 9)]), "d/=1 l/=9");
}

#[test]
fn the_root_takes_attributes_and_stays_a_directory() {
    let tree = merge(&[base(), Layer::default().dir("", 7)]).unwrap();
    assert_eq!(tree.node(Tree::ROOT).attr.uid, 7);
    assert_eq!(
        problem(&[Layer::default().file("", 1)]),
        Problem::RootNotDirectory
    );
}
