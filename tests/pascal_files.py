"""Small files in the layout of the PASCAL-Context multi-task benchmark, made with their truth."""

import numpy as np
from PIL import Image
from scipy.io import savemat

from geolessons.data.person_parts import GROUPS

H, W = 10, 14
NAMES = ("2008_000001", "2008_000002", "2008_000003")
FLOOR, SKY = 158, 360  # a class on which normals count, and one on which they do not


def structs(rows):
    """MATLAB's 1×n struct array."""
    found = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for i, row in enumerate(rows):
        for key, value in row.items():
            found[0, i][key] = value
    return found


def person(parts, class_ind=15, size=(H, W)):
    """An object whose parts, (name, rows, columns) each, are rectangles."""

    def mask(rows, columns):
        found = np.zeros(size, np.uint8)
        found[rows, columns] = 1
        return found

    made = [{"part_name": name, "mask": mask(rows, columns)} for name, rows, columns in parts]
    whole = np.maximum.reduce([p["mask"] for p in made]) if made else np.ones(size, np.uint8)
    return {
        "class": "person" if class_ind == 15 else "dog",
        "class_ind": float(class_ind),
        "mask": whole,
        "parts": structs(made) if made else np.zeros((0, 0)),
    }


def anno(name, objects):
    """The struct at the top of a file."""
    return {"anno": structs([{"imname": name, "objects": structs(objects) if objects else np.zeros((0, 0))}])}


def path(root, folder, name):
    """A file of the layout."""
    return root / {
        "photo": f"JPEGImages/{name}.jpg",
        "semseg": f"semseg/VOC12/{name}.png",
        "parts": f"human_parts/{name}.mat",
        "normals": f"normals_distill/{name}.png",
        "saliency": f"sal_distill/{name}.png",
        "context": f"pascal-context/trainval/{name}.mat",
    }.get(folder, folder)


def write(root, names=NAMES, seed=0, size=(H, W), split="train", grain=1):
    """Files of all kinds, in squares of `grain` pixels; returns the truth of each.

    That is semseg, parts, saliency and normals as bytes, classes.  In the second picture nobody's parts are
    labelled.  Every other `.mat` is compressed.
    """
    rng = np.random.default_rng(seed)

    def draw(values, *channels):
        found = rng.choice(np.asarray(values, np.uint16), (*(-(-n // grain) for n in size), *channels))
        return found.repeat(grain, 0).repeat(grain, 1)[: size[0], : size[1]]

    truth = {}
    for i, name in enumerate(names):
        for folder in ("photo", "semseg", "parts", "normals", "saliency", "context"):
            path(root, folder, name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(range(256), 3).astype(np.uint8)).save(path(root, "photo", name), quality=95)
        semseg = draw([*range(21), 255]).astype(np.uint8)
        coded = Image.fromarray(semseg)
        coded.putpalette(rng.integers(0, 256, 768, np.uint8).tobytes())
        coded.save(path(root, "semseg", name))
        top, left, bottom = slice(0, size[0] // 2), slice(0, size[1] // 2), slice(size[0] // 3, None)
        middle = slice(size[1] // 4, size[1] // 2)
        chosen = [("torso", top, left), *((k, bottom, middle) for k in rng.choice(sorted(GROUPS), 2))]
        objects = [person([("head", top, left)], class_ind=12, size=size), person([], size=size)]
        parts = np.zeros(size, np.int64)
        if i != 1:
            objects.append(person(chosen, size=size))
            for part, rows, columns in chosen:
                parts[rows, columns] = GROUPS[part]
        savemat(path(root, "parts", name), anno(name, objects), do_compression=i % 2 == 0)
        normals = draw(range(256), 3).astype(np.uint8)
        normals[0, 0] = 128  # all but zero
        Image.fromarray(normals).save(path(root, "normals", name))
        saliency = draw(range(256)).astype(np.uint8)
        saliency[0, :2] = 127, 128
        Image.fromarray(saliency).save(path(root, "saliency", name))
        classes = draw([FLOOR, SKY])
        savemat(path(root, "context", name), {"LabelMap": classes}, do_compression=i % 2 == 0)
        truth[name] = (semseg, parts, saliency, normals, classes)
    listed = root / "ImageSets" / "Context" / f"{split}.txt"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("\n".join(names) + "\n")
    return truth
