"""The dialogs that import the results of a job."""

import pytest

from biomeroworker.domain.constants import results
from biomeroworker.errors import RequestRejected
from biomeroworker.omero.importing.options import Options
from biomeroworker.omero.scripts import results_fields

DEFAULTS = results_fields.Defaults("New", rename=True, rename_pattern="{file}")
NEW = {results.OUTPUT_ATTACH_NEW_DATASET: True}


def constants():
    return {value for name, value in vars(results).items() if name.isupper()}


def test_every_parameter_that_other_scripts_send_is_declared():
    names = {field.name() for field in results_fields.fields(DEFAULTS, importer=True)}
    missing = (
        constants() - names - {results.OUTPUT_ATTACH_NEW_SCREEN_RENAME, results.OUTPUT_ATTACH_NEW_SCREEN_RENAME_NAME}
    )
    assert not missing


def test_only_the_importer_has_screens_and_label_zarrs():
    names = {field.name() for field in results_fields.fields(DEFAULTS, importer=False)}
    assert not names & {results.OUTPUT_ATTACH_NEW_SCREEN, results.IMPORT_LABEL_ZARRS}


def test_the_fields_become_options_of_the_import():
    given = {
        **NEW,
        results.OUTPUT_ATTACH_NEW_DATASET_NAME: "mine",
        results.OUTPUT_ATTACH_NEW_DATASET_RENAME: True,
        results.OUTPUT_ATTACH_NEW_DATASET_RENAME_NAME: "{file}",
        results.OUTPUT_ATTACH_DATASET: True,
        results.ROI_COLOR: "red",
        results.ROI_SHAPE: "Mask",
        results.OUTPUT_CREATE_ROIS: True,
        results.ROI_DELETE_LABEL_IMAGES: True,
    }
    chosen = Options.of(results_fields.options(given))
    assert (chosen.dataset, chosen.rename, chosen.images, chosen.zip) == ("mine", "{file}", True, True)
    assert (chosen.rois, chosen.roi_shape, chosen.roi_colour, chosen.label_images) == (True, "mask", "red", False)
    assert (chosen.tables, chosen.files, chosen.attach_images) == (False, False, False)


def test_a_pattern_has_an_effect_only_if_renaming_is_on():
    given = {**NEW, results.OUTPUT_ATTACH_NEW_DATASET_RENAME_NAME: "{file}"}
    assert results_fields.options(given)["rename"] == ""


def test_a_screen_and_an_empty_selection_are_refused():
    with pytest.raises(RequestRejected, match="results go into datasets"):
        results_fields.options({**NEW, results.OUTPUT_ATTACH_NEW_SCREEN_ID: 3})
    with pytest.raises(RequestRejected, match="nothing to import"):
        results_fields.options({})


def test_targets_are_ids_with_or_without_a_name():
    given = {results.OUTPUT_ATTACH_DATASET_ID: ["12: cells", "7"], results.OUTPUT_ATTACH_TABLE_DATASET_ID: ["12"]}
    assert results_fields.target(given) == ("Dataset", [7, 12])
    assert results_fields.target({}) is None


def test_targets_of_two_kinds_and_names_without_an_id_are_refused():
    with pytest.raises(RequestRejected, match="one kind"):
        results_fields.target({results.OUTPUT_ATTACH_DATASET_ID: ["1"], results.OUTPUT_ATTACH_PROJECT_ID: ["2"]})
    with pytest.raises(RequestRejected, match="has no ID"):
        results_fields.target({results.OUTPUT_ATTACH_PROJECT_ID: ["cells"]})


def test_a_job_needs_a_number():
    assert results_fields.job_id({results.OUTPUT_SLURM_JOB_ID: " 12 "}) == 12
    with pytest.raises(RequestRejected, match="the ID of a SLURM job"):
        results_fields.job_id({})
