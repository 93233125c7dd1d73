"""Tiny data sets on the disk, in the published layouts, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image


def image(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    """An image (H, W, 3) unlike that of any other seed, also to a perceptual hash."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save_image(path: Path, seed: int = 0, height: int = 24, width: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image(seed, height, width)).save(path)
    return path


def save_shanghaitech_mat(path: Path, points: np.ndarray) -> Path:
    """`image_info[0][0][0][0][0]`: a 1 x 1 cell of a 1 x 1 struct (location, number)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = np.empty((1, 1), dtype=object)
    info[0, 0] = {"location": np.asarray(points, dtype=float), "number": float(len(points))}
    scipy.io.savemat(path, {"image_info": info})
    return path


def shanghaitech(
    root: Path,
    part: str = "part_A",
    truths: str = "ground-truth",
    above: str = "ShanghaiTech",
    points: dict[str, list] | None = None,
) -> Path:
    """Three training and two test images; returns the part's folder."""
    folder = root / above / part
    for split, number in (("train", 3), ("test", 2)):
        for i in range(1, number + 1):
            name, base = f"IMG_{i}", folder / f"{split}_data"
            save_image(base / "images" / f"{name}.jpg", seed=10 * i + (split == "test"))
            here = (points or {}).get(f"{split}/{name}", [[1.5, 2.5]] * i)
            save_shanghaitech_mat(base / truths / f"GT_{name}.mat", here)
    return folder


def qnrf(root: Path, above: str = "UCF-QNRF_ECCV18") -> Path:
    folder = root / above
    for split in ("Train", "Test"):
        save_image(folder / split / "img_0001.jpg", seed=len(split))
        scipy.io.savemat(folder / split / "img_0001_ann.mat", {"annPoints": [[3.0, 4.0], [5, 6]]})
    return folder


def nwpu(root: Path, above: str = "NWPU-Crowd") -> Path:
    folder = root / above
    (folder / "mats").mkdir(parents=True)
    for i in range(1, 5):
        save_image(folder / f"images_part{i}" / f"{i:04d}.jpg", seed=i)
        if i < 4:
            scipy.io.savemat(folder / "mats" / f"{i:04d}.mat", {"annPoints": np.zeros((i - 1, 2))})
    (folder / "train.txt").write_text("0002 1 2\n0001 0 1\n")
    (folder / "val.txt").write_text("0003 1 2\n")
    (folder / "test.txt").write_text("0004\n")
    return folder


def jhu(root: Path, above: str = "jhu_crowd_v2.0") -> Path:
    folder = root / above
    for seed, split in enumerate(("train", "val", "test")):
        save_image(folder / split / "images" / "0001.jpg", seed=seed)
        (folder / split / "gt").mkdir()
        (folder / split / "gt" / "0001.txt").write_text("7 8 4 4 1 0\n9 10 3 4 2 0\n")
        (folder / split / "image_labels.txt").write_text("0001,2,stadium,0,0\n")
    return folder
