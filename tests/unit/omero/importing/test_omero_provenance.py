"""The provenance annotation of the whole run names the images without a result."""

from biomeroworker.domain.source import Provenance
from biomeroworker.omero.importing.annotations import RUN, pairs

BY = Provenance("r", 1, "nuclei", "v1", "lab/nuclei:v1", "", {"size": 3}, 7, without_result={"image-7": "cells.tif"})


def test_the_annotation_of_the_run_names_the_images_without_a_result():
    assert ("Without_Result", "cells.tif (image-7)") in pairs(BY, RUN)


def test_the_annotations_of_single_results_and_of_complete_runs_do_not():
    assert "Without_Result" not in dict(pairs(BY, "image-8_mask.tif"))
    complete = Provenance("r", 1, "nuclei", "v1", "lab/nuclei:v1", "", {}, 7)
    assert "Without_Result" not in dict(pairs(complete, RUN))
