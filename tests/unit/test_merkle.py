"""The Merkle tree, against the definitions of RFC 6962 and against an implementation that is not ours (pymerkle)."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InclusionProof, InmemoryTree, InvalidProof
from pymerkle.core import _inclusion_path_layout

from manent.engine.log import merkle
from manent.engine.log.merkle import EMPTY_ROOT, Frontier

ENTRIES = [b"entry %d" % number for number in range(700)]
LEAVES = [hashlib.sha256(b"\0" + entry).digest() for entry in ENTRIES]


def root_of(leaves):
    """MTH as RFC 6962 section 2.1 defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def node(level, index):
    return root_of(LEAVES[index << level : (index + 1) << level])


@pytest.fixture(scope="module")
def theirs():
    tree = InmemoryTree(algorithm="sha256")
    for entry in ENTRIES:
        tree.append_entry(entry)
    return tree


def test_published_roots():
    """The roots that certificate transparency's implementations are tested with, of the first 0 to 8 entries."""
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    leaves = [hashlib.sha256(b"\0" + bytes.fromhex(entry)).digest() for entry in entries]
    assert [Frontier().extend(leaves[:size]).root().hex() for size in range(9)] == roots


def test_roots_are_theirs(theirs):
    """The frontier, grown a leaf at a time, has at each size the root that the other implementation computes."""
    frontier = Frontier()
    for size, leaf in enumerate(LEAVES, 1):
        frontier = frontier.append(leaf)
        assert frontier.root() == theirs.get_root(size)
        assert Frontier.from_bytes(frontier.to_bytes()) == frontier


def test_our_paths_convince_their_verifier(theirs):
    """On random pairs of index and size; and a path for another leaf does not."""
    chance = random.Random(20260101)
    for _ in range(500):
        size = chance.randint(1, len(LEAVES))
        index = chance.randrange(size)
        path = [LEAVES[index], *merkle.inclusion_path(index, size, node)]
        rule, _ = _inclusion_path_layout(index + 1, size)
        proof = InclusionProof("sha256", security=True, size=size, index=index + 1, rule=rule, path=path)
        proof.verify(LEAVES[index], theirs.get_root(size))
        with pytest.raises(InvalidProof):
            proof.verify(LEAVES[index - 1], theirs.get_root(size))


def test_their_paths_convince_our_verifier(theirs):
    """The other way round."""
    chance = random.Random(20260102)
    for _ in range(500):
        size = chance.randint(1, len(LEAVES))
        index = chance.randrange(size)
        path = theirs.prove_inclusion(index + 1, size).path[1:]
        assert merkle.verify_inclusion(LEAVES[index], index, size, path, theirs.get_root(size))


@given(st.data())
def test_consistency_is_proved_between_their_roots(theirs, data):
    """Any two sizes; the proof has at most one hash a level and side, and no other sizes, roots or hashes do."""
    new = data.draw(st.integers(1, len(LEAVES)))
    old = data.draw(st.integers(1, new))
    roots = theirs.get_root(old), theirs.get_root(new)
    path = merkle.consistency_path(old, new, node)
    assert len(path) <= new.bit_length() + 1
    assert merkle.verify_consistency(old, new, *roots, path)
    assert old == new or not merkle.verify_consistency(old, new, roots[0], roots[0], path)
    assert old == new or not merkle.verify_consistency(old, new, roots[1], roots[1], path)
    assert not merkle.verify_consistency(old, new, *roots, [*path, roots[0]])
    assert not path or not merkle.verify_consistency(old, new, *roots, path[:-1])
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        bent = [*path[:place], hashlib.sha256(path[place]).digest(), *path[place + 1 :]]
        assert not merkle.verify_consistency(old, new, *roots, bent)


@given(st.data())
def test_inclusion_holds_for_one_leaf_at_one_place_only(data):
    """Another index, size, leaf, root or path is refused."""
    size = data.draw(st.integers(2, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    path, root = merkle.inclusion_path(index, size, node), root_of(LEAVES[:size])
    assert merkle.verify_inclusion(LEAVES[index], index, size, path, root)
    assert not merkle.verify_inclusion(LEAVES[index - 1], index, size, path, root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, path, EMPTY_ROOT)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, [*path, root], root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, path[:-1], root)
    assert not merkle.verify_inclusion(LEAVES[index], index + size, size, path, root)
    other = data.draw(st.integers(0, size - 1))
    assert other == index or not merkle.verify_inclusion(LEAVES[index], other, size, path, root)


def test_the_empty_tree_begins_every_tree():
    """And needs no proof; its root is the hash of nothing."""
    assert Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()
    assert merkle.consistency_path(0, 9, node) == []
    assert merkle.verify_consistency(0, 9, EMPTY_ROOT, root_of(LEAVES[:9]), [])
    assert not merkle.verify_consistency(0, 9, LEAVES[0], root_of(LEAVES[:9]), [])
    assert not merkle.verify_consistency(0, 0, LEAVES[0], EMPTY_ROOT, [])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (9, 8)])
def test_there_is_no_path_for_a_leaf_that_is_not_there(index, size):
    """Nor does any verify."""
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion_path(index, size, node)
    assert not merkle.verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 1)])
def test_a_tree_does_not_begin_with_a_larger_one(old, new):
    """Nor does any proof say so."""
    with pytest.raises(ValueError, match="does not begin"):
        merkle.consistency_path(old, new, node)
    assert not merkle.verify_consistency(old, new, LEAVES[0], LEAVES[0], [])


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 7 + b"\1", b"\0" * 7 + b"\3" + b"x" * 32, b"\0" * 40])
def test_what_is_no_frontier_is_refused(data):
    """Too short, too long, or of another size."""
    with pytest.raises(ValueError, match="no frontier"):
        Frontier.from_bytes(data)


def test_a_subtree_is_all_nodes_above_its_leaves():
    """Level by level, the root last."""
    nodes = merkle.subtree(LEAVES[:8])
    assert nodes == [node(1, 0), node(1, 1), node(1, 2), node(1, 3), node(2, 0), node(2, 1), node(3, 0)]
