"""`make demo`: the main job on real servers, told live, and checked afterwards."""
