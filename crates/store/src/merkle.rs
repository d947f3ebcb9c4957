//! The hashes of RFC 6962: a tree whose root commits to every leaf and to their order, and proofs
//! that a leaf is in it and that a later tree extends it. Pure: no I/O.
//!
//! A complete subtree's root is kept under (level, position) as soon as its last leaf is there;
//! so appending reads and writes O(log n) hashes at most, and any root or proof of any earlier
//! size can be had.

use ring::digest::{Context, SHA256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Where the roots of complete subtrees are kept: level 0 holds the leaves' own hashes, and the
/// node at (level, position) covers leaves `position << level ..` of number `1 << level`.
pub trait Nodes {
    /// Why a node cannot be had.
    type Error;

    /// The node at (level, position).
    ///
    /// # Errors
    ///
    /// Storage errors; a complete subtree's node exists.
    fn node(&self, level: u32, position: u64) -> Result<Hash, Self::Error>;
}

/// The hash of a leaf: prefixed, so that no leaf can pass for a node.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    hash(&[&[0x00], leaf])
}

/// The hash of a node over its two children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[0x01], left, right])
}

/// The root of a tree without leaves.
pub fn empty_root() -> Hash {
    hash(&[])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The nodes that become complete when `leaf` is appended as leaf number `index`, from the
/// leaf's own upwards: (level, position, hash).
///
/// # Errors
///
/// Whatever `nodes` reports.
pub fn nodes_of_append<N: Nodes>(
    nodes: &N,
    index: u64,
    leaf: Hash,
) -> Result<Vec<(u32, u64, Hash)>, N::Error> {
    let mut completed = vec![(0, index, leaf)];
    let (mut level, mut position, mut hash) = (0, index, leaf);
    while position & 1 == 1 {
        let left = nodes.node(level, position - 1)?;
        hash = node_hash(&left, &hash);
        level += 1;
        position >>= 1;
        completed.push((level, position, hash));
    }
    Ok(completed)
}

/// The root of the first `size` leaves.
///
/// # Errors
///
/// Whatever `nodes` reports.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 {
        return Ok(empty_root());
    }
    range_root(nodes, 0, size)
}

/// The proof that leaf `index` is among the first `size`: from its sibling upwards.
/// `index` is below `size`.
///
/// # Errors
///
/// Whatever `nodes` reports.
pub fn inclusion_proof<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut begin, mut end) = (0, size);
    let mut from_the_top = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            from_the_top.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            from_the_top.push(range_root(nodes, begin, middle)?);
            begin = middle;
        }
    }
    from_the_top.reverse();
    Ok(from_the_top)
}

/// The proof that the first `new` leaves begin with the first `old`. `old` is at most `new`.
///
/// # Errors
///
/// Whatever `nodes` reports.
pub fn consistency_proof<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut begin, mut end) = (0, new);
    let mut from_the_top = Vec::new();
    // Down to the subtree whose end is `old`.
    while end != old {
        let middle = begin + split(end - begin);
        if old <= middle {
            from_the_top.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            from_the_top.push(range_root(nodes, begin, middle)?);
            begin = middle;
        }
    }
    // The verifier knows the old root itself.
    if begin != 0 {
        from_the_top.push(range_root(nodes, begin, end)?);
    }
    from_the_top.reverse();
    Ok(from_the_top)
}

/// The largest power of two below `size`, which is at least two.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The root of leaves `begin..end`, a range that some tree has as a subtree.
fn range_root<N: Nodes>(nodes: &N, begin: u64, end: u64) -> Result<Hash, N::Error> {
    let size = end - begin;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return nodes.node(level, begin >> level);
    }
    let middle = begin + split(size);
    let left = range_root(nodes, begin, middle)?;
    let right = range_root(nodes, middle, end)?;
    Ok(node_hash(&left, &right))
}

/// Whether `proof` shows that `leaf` is number `index` of the `size` leaves under `root`
/// (RFC 9162, 2.1.3.2).
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the `new` leaves under `new_root` begin with the `old` ones under
/// `old_root` (RFC 9162, 2.1.4.2).
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> bool {
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old > new {
        return false;
    }
    // A complete old tree is its own first step.
    let mut steps = proof.iter();
    let first = if old.is_power_of_two() {
        Some(old_root)
    } else {
        steps.next()
    };
    let Some(first) = first else {
        return false;
    };
    let (mut place, mut last) = (old - 1, new - 1);
    while place & 1 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// A tree that is kept in memory alone, in O(log n): for a verifier, who reads each leaf once.
#[derive(Debug, Clone, Default)]
pub struct Frontier {
    size: u64,
    /// The roots of the complete subtrees, largest first: one for each bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut hash = leaf_hash(leaf);
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("each bit of the size has a peak");
            hash = node_hash(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let mut smaller_first = self.peaks.iter().rev();
        let Some(smallest) = smaller_first.next() else {
            return empty_root();
        };
        smaller_first.fold(*smallest, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Tree {
        nodes: HashMap<(u32, u64), Hash>,
        leaves: Vec<Vec<u8>>,
    }

    impl Nodes for Tree {
        type Error = Infallible;

        fn node(&self, level: u32, position: u64) -> Result<Hash, Infallible> {
            Ok(self.nodes[&(level, position)])
        }
    }

    impl Tree {
        fn of(leaves: impl IntoIterator<Item = Vec<u8>>) -> Self {
            let mut tree = Self::default();
            for leaf in leaves {
                let index = tree.leaves.len() as u64;
                let Ok(completed) = nodes_of_append(&tree, index, leaf_hash(&leaf));
                for (level, position, hash) in completed {
                    tree.nodes.insert((level, position), hash);
                }
                tree.leaves.push(leaf);
            }
            tree
        }

        fn root(&self, size: u64) -> Hash {
            let Ok(root) = root(self, size);
            root
        }
    }

    /// RFC 6962, 2.1, word for word.
    fn definition(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => leaf_hash(leaf),
            _ => {
                let k = split(leaves.len() as u64) as usize;
                node_hash(&definition(&leaves[..k]), &definition(&leaves[k..]))
            }
        }
    }

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The eight inputs and roots of the reference implementation of RFC 6962
    /// (certificate-transparency, `merkletree/merkle_tree_test.cc`).
    #[test]
    fn the_roots_are_those_of_the_reference_implementation() {
        let inputs: [&[u8]; 8] = [
            b"",
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
                0x6e, 0x6f,
            ],
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        assert_eq!(
            hex(&empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let tree = Tree::of(inputs.iter().map(|input| input.to_vec()));
        let mut frontier = Frontier::default();
        for (place, expected) in roots.iter().enumerate() {
            frontier.push(inputs[place]);
            assert_eq!(hex(&tree.root(place as u64 + 1)), *expected);
            assert_eq!(hex(&frontier.root()), *expected);
        }
    }

    proptest! {
        #[test]
        fn roots_are_as_defined(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..70)) {
            let tree = Tree::of(leaves.clone());
            let mut frontier = Frontier::default();
            for size in 0..=leaves.len() {
                prop_assert_eq!(tree.root(size as u64), definition(&leaves[..size]));
                prop_assert_eq!(frontier.root(), definition(&leaves[..size]));
                if let Some(leaf) = leaves.get(size) {
                    frontier.push(leaf);
                }
            }
        }

        #[test]
        fn a_proof_of_inclusion_proves_its_leaf_and_place_alone(
            size in 1_u64..70, index in 0_u64..70, other in 0_u64..70, place in 0_usize..8,
        ) {
            let index = index % size;
            let tree = Tree::of((0..size).map(|leaf| leaf.to_be_bytes().to_vec()));
            let Ok(proof) = inclusion_proof(&tree, index, size);
            let leaf = leaf_hash(&index.to_be_bytes());
            prop_assert!(verify_inclusion(leaf, index, size, &proof, &tree.root(size)));
            if other != index {
                prop_assert!(!verify_inclusion(leaf, other, size, &proof, &tree.root(size)));
                let another = leaf_hash(&other.to_be_bytes());
                prop_assert!(!verify_inclusion(another, index, size, &proof, &tree.root(size)));
            }
            if let Some(hash) = proof.clone().get_mut(place) {
                hash[0] ^= 1;
                let mut bad = proof.clone();
                bad[place] = *hash;
                prop_assert!(!verify_inclusion(leaf, index, size, &bad, &tree.root(size)));
                prop_assert!(!verify_inclusion(leaf, index, size, &proof[1..], &tree.root(size)));
            }
        }

        #[test]
        fn a_proof_of_consistency_proves_an_extension_alone(
            old in 0_u64..70, more in 0_u64..70, changed in 0_u64..70,
        ) {
            let new = old + more;
            let tree = Tree::of((0..new).map(|leaf| leaf.to_be_bytes().to_vec()));
            let Ok(proof) = consistency_proof(&tree, old, new);
            let (old_root, new_root) = (tree.root(old), tree.root(new));
            prop_assert!(verify_consistency(old, new, &old_root, &new_root, &proof));
            if changed < old {
                let forked = Tree::of((0..new).map(|leaf| {
                    (if leaf == changed { u64::MAX } else { leaf }).to_be_bytes().to_vec()
                }));
                let Ok(forked_proof) = consistency_proof(&forked, old, new);
                prop_assert!(!verify_consistency(old, new, &old_root, &forked.root(new), &forked_proof));
                prop_assert!(!verify_consistency(old, new, &old_root, &forked.root(new), &proof));
            }
        }
    }
}
