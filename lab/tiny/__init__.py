"""How every part of the embedded pipeline is made, one file per part."""
