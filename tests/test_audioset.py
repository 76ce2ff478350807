"""The class list and the ontology, and how a class is asked for."""

import itertools

import pytest

from uss_jax import audioset

TOP_CATEGORIES = [
    "Human sounds",
    "Animal",
    "Music",
    "Natural sounds",
    "Sounds of things",
    "Source-ambiguous sounds",
    "Channel, environment and background",
]


def children(mid):
    return [node for node in audioset.nodes().values() if node.parent == mid]


def test_there_are_527_classes_in_the_order_of_their_indices():
    classes = audioset.classes()
    assert [sound.index for sound in classes] == list(range(527))
    assert len({sound.mid for sound in classes}) == len({sound.name for sound in classes}) == 527
    assert [classes[index].name for index in (0, 74, 288, 526)] == ["Speech", "Dog", "Water", "Field recording"]


def test_the_tree_has_each_of_632_nodes_once_below_seven_top_categories():
    assert len(audioset.nodes()) == 632
    assert [node.name for node in audioset.nodes_at(1)] == TOP_CATEGORIES
    assert audioset.deepest_level() == 6
    for node in audioset.nodes().values():
        assert node.level == (1 if node.parent is None else audioset.nodes()[node.parent].level + 1)


def test_nodes_come_depth_first():
    nodes = list(audioset.nodes().values())
    for node, following in itertools.pairwise(nodes):
        assert following.level <= node.level + 1
        if following.level == node.level + 1:
            assert following.parent == node.mid


def test_a_node_covers_the_classes_of_its_children_and_at_most_its_own():
    own = {sound.mid: sound.index for sound in audioset.classes()}
    for mid, node in audioset.nodes().items():
        below = [index for child in children(mid) for index in child.class_indices]
        assert sorted([*below, own[mid]] if mid in own else below) == list(node.class_indices)


@pytest.mark.parametrize("level", range(1, 7))
def test_no_class_stands_below_two_nodes_of_a_level(level):
    covered = [index for node in audioset.nodes_at(level) for index in node.class_indices]
    assert len(covered) == len(set(covered))
    assert all(node.class_indices for node in audioset.nodes_at(level))


def test_the_top_categories_cover_all_classes():
    assert sorted(index for node in audioset.nodes_at(1) for index in node.class_indices) == list(range(527))


@pytest.mark.parametrize("query", ["Dog", "dog", " DOG ", 74, "74", "/m/0bt9lr"])
def test_a_class_is_found_by_name_in_any_case_index_or_mid(query):
    assert audioset.find_class(query) == audioset.SoundClass(74, "/m/0bt9lr", "Dog")


@pytest.mark.parametrize(("query", "near"), [("Helicoptr", "'Helicopter'"), ("hubbub", "'Hubbub, speech noise")])
def test_an_unknown_name_is_told_near_ones(query, near):
    with pytest.raises(ValueError, match=f"'{query}' is not .*did you mean .*{near}"):
        audioset.find_class(query)


def test_a_name_unlike_any_other_is_told_none():
    with pytest.raises(ValueError, match=r"index or mid$"):
        audioset.find_class("xyzzyqqq")


def test_an_index_out_of_range_is_told_the_range():
    with pytest.raises(ValueError, match="no class 527: class indices run from 0 to 526"):
        audioset.find_class(527)


def test_every_name_and_mid_is_a_label_cell_even_where_names_hold_commas():
    for sound in audioset.classes():
        assert audioset.parse_labels(sound.name) == audioset.parse_labels(sound.mid) == (sound.index,)
    assert sum("," in sound.name for sound in audioset.classes()) > 50


def test_a_cell_of_all_names_holds_all_classes():
    names = [sound.name for sound in audioset.classes()]
    assert audioset.parse_labels(",".join(names)) == tuple(range(527))
    assert audioset.parse_labels("; ".join(reversed(names))) == tuple(range(527))


def test_labels_are_sorted_without_repeats_or_gaps():
    assert audioset.parse_labels("Rain,,/m/05tny_ ; dog,Rain,") == (74, 75, 289)
    assert audioset.parse_labels(" , ") == ()


def test_a_cell_with_one_wrong_label_is_refused():
    with pytest.raises(ValueError, match=r"'Dgo'.*'Dog'"):
        audioset.parse_labels("Rain,Dgo")


def test_names_and_disjointness():
    assert audioset.class_names([0, 74]) == ["Speech", "Dog"]
    assert audioset.disjoint((74, 75), (0,))
    assert not audioset.disjoint((74, 75), (75, 0))
