"""How the embedded parser was trained."""
