"""What a run has made, in words that a biologist reads."""

from biomeroworker.domain.summary import describe_outputs, name_inputs, without_result


def test_counts_are_words():
    assert describe_outputs({"Roi": 315, "Image": 2, "Table": 1, "Dataset": 1}) == "2 images, 315 ROIs, 1 table"
    assert describe_outputs({"file": 1}) == "1 file"
    assert describe_outputs({}) == "nothing was made"


def test_what_was_not_imported_is_a_sentence_and_not_a_count_of_an_internal_kind():
    assert describe_outputs({"Image": 2, "RoiLeftOut": 1}).startswith(
        "2 images, no ROIs from 1 label image of a whole plate"
    )
    assert "RoiLeftOut" not in describe_outputs({"RoiLeftOut": 3})


def test_missing_rois_are_reported_with_the_reason():
    assert "you may only view its original" in describe_outputs({"Table": 1, "RoiReadOnly": 1})


def test_results_in_another_dataset_than_requested_are_reported():
    assert describe_outputs({"Image": 2, "DatasetGone": 1}).startswith(
        "2 images, the requested dataset is not available any more"
    )


def test_inputs_without_a_result_are_the_failed_and_the_skipped_ones():
    report = {"failed": [{"inputs": {"image-1": "a"}}, {"inputs": {"image-3": "c"}}], "skipped": {"image-2": "b"}}
    assert without_result(report) == {"image-1": "a", "image-3": "c", "image-2": "b"}
    assert without_result({"made": {"Image": 2}}) == {}


def test_a_long_list_of_inputs_is_cut_and_the_rest_is_counted():
    named = name_inputs({f"image-{number}": f"n{number}" for number in range(12)})
    assert named.startswith("n0 (image-0), n1 (image-1)")
    assert named.endswith("n9 (image-9), and 2 more")
