"""How what an evaluation costs grows."""
