"""The devices of the machine. One file each; they never import each other."""
