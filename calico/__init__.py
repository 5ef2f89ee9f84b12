"""CALICO: part-focused semantic co-segmentation over several images."""
