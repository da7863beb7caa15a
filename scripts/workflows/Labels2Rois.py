"""Create ROIs from label images that are in OMERO: one ROI for each object, on the image that it was found in."""

import omero.clients
import omero.scripts
from omero.rtypes import rlong, rstring

from biomeroworker.domain.constants import transfer
from biomeroworker.omero.scripts.script import Script, execute

MAPPING = "Mapping_Mode"
BY_NAME, EXPLICIT = "Automatic", "Explicit Image IDs"
LABEL_IDS, TARGET_IDS = "Label_Image_IDs", "Target_Image_IDs"
SEARCH = "Search_Mode"
SAME_DATASET, OTHER_DATASET = "Same dataset", "Other dataset"
LABEL_DATASET, SUFFIX = "Label_Dataset_ID", "Label_Suffix"
SHAPE, COLOR, PREFIX = "ROI_type", "ROI_Color", "ROI_Name_Prefix"
CLEAR, CLEAR_FILTER, DELETE = "Clear_Existing_ROIs", "Clear_ROI_Filter", "Delete_Label_Image"


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then draw the ROIs."""
    execute(
        "Labels2Rois",
        "Create ROIs on images from their label images: each object (all pixels with the same number) becomes one ROI. "
        "A label image that a workflow made is found by its provenance, others by their names.",
        parameters(),
        make_rois,
    )


def parameters():
    """The fields of the dialog."""

    def string(name, grouping, description, default=None, values=None):
        choice = {"values": [rstring(value) for value in values]} if values else {}
        return omero.scripts.String(
            name, optional=True, grouping=grouping, description=description, default=default, **choice
        )

    def switch(name, grouping, description):
        return omero.scripts.Bool(name, optional=True, grouping=grouping, description=description, default=False)

    def ids(name, grouping, description):
        return omero.scripts.List(name, optional=True, grouping=grouping, description=description).ofType(rlong(0))

    types = [transfer.DATA_TYPE_DATASET, transfer.DATA_TYPE_IMAGE]
    return [
        string(transfer.DATA_TYPE, "01", "The type of the objects with these IDs.", types[0], types),
        ids(transfer.IDS, "02", "The images for the ROIs, or their datasets."),
        string(SEARCH, "03", "Where the label images are.", SAME_DATASET, [SAME_DATASET, OTHER_DATASET]),
        omero.scripts.Long(
            LABEL_DATASET, optional=True, grouping="03.1", description=f"The dataset for {OTHER_DATASET!r}."
        ),
        string(SUFFIX, "04", "The name of a label image is that of its image and this, for example _mask.", "_mask"),
        string(SHAPE, "05", "Outlines as polygons, or masks.", "Polygon", ["Polygon", "Mask"]),
        string(COLOR, "06", "Color of the lines: #RRGGBB, or a name such as red. Empty: yellow."),
        string(PREFIX, "07", "Start of the names of the ROIs. Empty: the name of the label image."),
        switch(CLEAR, "08", "First DELETE the existing ROIs of the images."),
        string(CLEAR_FILTER, "08.1", "Delete only those whose names contain this. Empty: all that you may delete."),
        switch(DELETE, "09", "DELETE each label image when its ROIs exist."),
        string(MAPPING, "10", "How label images and images are paired.", BY_NAME, [BY_NAME, EXPLICIT]),
        ids(LABEL_IDS, "10.1", f"For {EXPLICIT!r}: the label images."),
        ids(TARGET_IDS, "10.2", f"For {EXPLICIT!r}: the image of each label image, in the same order."),
    ]


def make_rois(script: Script) -> str:
    """Pair the label images with the images, and draw the ROIs."""
    from biomeroworker.errors import RequestRejected
    from biomeroworker.omero.exporting.describe import select, wanted
    from biomeroworker.omero.importing import label_images
    from biomeroworker.omero.importing.rois import YELLOW, colour_of

    given = script.inputs
    try:
        colour = colour_of(given[COLOR]) if given.get(COLOR) else YELLOW
    except ValueError as error:
        raise RequestRejected(f"{COLOR}: {error}") from None
    drawing = label_images.Drawing(
        shape="mask" if given.get(SHAPE) == "Mask" else "polygon",
        colour=colour,
        prefix=given.get(PREFIX) or "",
        clear=bool(given.get(CLEAR)),
        clear_filter=given.get(CLEAR_FILTER) or "",
        delete_labels=bool(given.get(DELETE)),
    )
    with script.session() as session:
        problems: list[str] = []
        if given.get(MAPPING) == EXPLICIT:
            pairs = label_images.explicit_pairs(given.get(LABEL_IDS) or [], given.get(TARGET_IDS) or [])
        else:
            kind, ids = wanted({"type": given.get(transfer.DATA_TYPE), "ids": given.get(transfer.IDS)})
            targets = {image.id: image.name for image in select(session, kind, ids).images}
            if given.get(SEARCH) == OTHER_DATASET:
                if not given.get(LABEL_DATASET):
                    raise RequestRejected(
                        f"{SEARCH} is {OTHER_DATASET!r}: write the ID of the dataset into {LABEL_DATASET}"
                    )
                labels = {one.id: one.name for one in select(session, "Dataset", [given[LABEL_DATASET]]).images}
            else:
                labels = label_images.siblings(session, list(targets))
            made_from = label_images.images_made_from(session, list(labels))
            pairs, problems = label_images.find_pairs(labels, targets, made_from, given.get(SUFFIX) or "")
            if not pairs:
                raise RequestRejected(
                    f"none of {len(labels)} images is a label image of the {len(targets)} images; check {SEARCH} and"
                    f" {SUFFIX}" + "".join(f"\n{problem}" for problem in problems)
                )
        drawn = label_images.draw(session, pairs, drawing, script.report)
    problems += drawn.problems
    if not drawn.images:
        raise RequestRejected("no ROI was created\n" + "\n".join(problems))
    done = f"{drawn.objects} ROIs are on {len(drawn.images)} images."
    return "\n".join([f"{done} NOT all label images were used:" if problems else done, *problems])


if __name__ == "__main__":
    main()
