"""The PaddlePaddle backend; only this package imports paddle."""
