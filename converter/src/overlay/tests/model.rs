//! Random layers against a naive model.

use proptest::prelude::*;

use super::*;

/// One random member. Links may have no target; both sides must say so.
#[derive(Clone, Debug)]
enum Op {
    File(Vec<u8>),
    Dir(Vec<u8>),
    Link(Vec<u8>, Vec<u8>),
    Whiteout(Vec<u8>),
    Opaque(Vec<u8>),
}

type Path = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Naive {
    /// 0 for implicit parents.
    mark: u32,
    inode: u32,
    is_dir: bool,
    layer: usize,
}

/// A file system as a flat map of paths (one byte a component), every rule spelt out by prefix.
#[derive(Default)]
struct Model {
    paths: BTreeMap<Path, Naive>,
    next_inode: u32,
}

impl Model {
    fn remove(&mut self, path: &[u8], with_itself: bool) {
        self.paths
            .retain(|other, _| !(other.starts_with(path) && (with_itself || other.len() > path.len())));
    }

    fn add(&mut self, path: &[u8], mark: u32, is_dir: bool, layer: usize) {
        self.next_inode += 1;
        self.paths.insert(
            path.to_vec(),
            Naive {
                mark,
                inode: self.next_inode,
                is_dir,
                layer,
            },
        );
    }

    fn parents(&mut self, path: &[u8], layer: usize) -> bool {
        (1..path.len()).all(|len| {
            let parent = &path[..len];
            match self.paths.get(parent) {
                Some(naive) if naive.is_dir => true,
                Some(naive) if naive.layer == layer => false,
                _ => {
                    self.remove(parent, true);
                    self.add(parent, 0, true, layer);
                    true
                }
            }
        })
    }

    fn apply(&mut self, ops: &[(Op, u32)], layer: usize) -> bool {
        let lower: Vec<Path> = self.paths.keys().cloned().collect();
        for (op, _) in ops {
            match op {
                Op::Whiteout(path) if lower.contains(path) => self.remove(path, true),
                Op::Opaque(path) => self.remove(path, false),
                _ => {}
            }
        }
        ops.iter().all(|(op, mark)| match op {
            Op::Whiteout(path) => self.parents(path, layer),
            Op::Opaque(path) => self.parents(&[&path[..], b"?"].concat(), layer),
            Op::Dir(path) => {
                self.parents(path, layer) && {
                    match self.paths.get_mut(path) {
                        Some(naive) if naive.is_dir => naive.mark = *mark,
                        _ => self.add(path, *mark, true, layer),
                    }
                    true
                }
            }
            Op::File(path) => {
                self.parents(path, layer) && {
                    self.remove(path, true);
                    self.add(path, *mark, false, layer);
                    true
                }
            }
            Op::Link(path, target) => match self.paths.get(target).cloned() {
                Some(naive) if !naive.is_dir && self.parents(path, layer) => {
                    self.remove(path, true);
                    self.paths.insert(path.clone(), naive);
                    true
                }
                _ => false,
            },
        })
    }
}

fn op() -> impl Strategy<Value = Op> {
    let path = || prop::collection::vec(prop::sample::select(b"abc".to_vec()), 1..4);
    prop_oneof![
        4 => path().prop_map(Op::File),
        3 => path().prop_map(Op::Dir),
        1 => (path(), path()).prop_map(|(path, target)| Op::Link(path, target)),
        2 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
    ]
}

fn text(path: &[u8]) -> String {
    path.iter()
        .map(|byte| char::from(*byte).to_string())
        .collect::<Vec<_>>()
        .join("/")
}

fn layer_of(ops: &[(Op, u32)]) -> Layer {
    ops.iter().fold(Layer::default(), |layer, (op, mark)| match op {
        Op::File(path) => layer.file(&text(path), *mark),
        Op::Dir(path) => layer.dir(&text(path), *mark),
        Op::Link(path, target) => layer.link(&text(path), &text(target)),
        Op::Whiteout(path) => layer.whiteout(&text(path)),
        Op::Opaque(path) => layer.opaque(&text(path)),
    })
}

/// Paths with kind and mark, and which of them are one inode.
fn model_view(model: &Model) -> (Vec<String>, Vec<Vec<String>>) {
    let name = |path: &Path, naive: &Naive| text(path) + if naive.is_dir { "/" } else { "" };
    let mut shown = Vec::new();
    let mut groups: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (path, naive) in &model.paths {
        shown.push(format!("{}={}", name(path, naive), naive.mark));
        groups.entry(naive.inode).or_default().push(name(path, naive));
    }
    sorted(shown, groups.into_values().collect())
}

fn tree_view(tree: &Tree) -> (Vec<String>, Vec<Vec<String>>) {
    let mut shown = Vec::new();
    let mut groups: BTreeMap<InodeId, Vec<String>> = BTreeMap::new();
    for (path, id) in paths(tree) {
        shown.push(format!("{path}={}", tree.node(id).attr.uid));
        groups.entry(id).or_default().push(path);
    }
    sorted(shown, groups.into_values().collect())
}

fn sorted(mut shown: Vec<String>, mut groups: Vec<Vec<String>>) -> (Vec<String>, Vec<Vec<String>>) {
    shown.sort();
    groups.iter_mut().for_each(|group| group.sort());
    groups.sort();
    (shown, groups)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_layers_merge_as_the_model_does(
        stack in prop::collection::vec(prop::collection::vec((op(), 1u32..100), 0..8), 1..5)
    ) {
        let mut model = Model::default();
        let mut overlay = Overlay::default();
        for (number, ops) in stack.iter().enumerate() {
            let is_accepted = overlay.apply(&layer_of(ops).0, &[]).is_ok();
            prop_assert_eq!(is_accepted, model.apply(ops, number));
            if !is_accepted {
                return Ok(());
            }
        }
        prop_assert_eq!(tree_view(&overlay.finish()), model_view(&model));
    }
}
