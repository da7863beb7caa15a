"""What a run has made, in words that a biologist reads."""

from biomeroworker.domain.summary import made_text


def test_counts_are_words():
    assert made_text({"Roi": 315, "Image": 2, "Table": 1, "Dataset": 1}) == "2 images, 315 ROIs, 1 table"
    assert made_text({"file": 1}) == "1 file"
    assert made_text({}) == "nothing was made"


def test_what_was_left_out_is_a_sentence_and_not_a_count_of_something_strange():
    assert made_text({"Image": 2, "RoiLeftOut": 1}).startswith("2 images, no ROIs from 1 label image of a whole plate")
    assert "RoiLeftOut" not in made_text({"RoiLeftOut": 3})


def test_rois_that_had_nowhere_to_lie_are_told_of():
    assert "you may only look at its original" in made_text({"Table": 1, "RoiReadOnly": 1})


def test_results_that_are_elsewhere_than_asked_for_are_told_of():
    assert made_text({"Image": 2, "DatasetGone": 1}).startswith("2 images, the dataset named for them cannot take them")
