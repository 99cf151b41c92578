"""How pictures look, and that of a jet along the flow: arrays in, matplotlib's figures out.

It stands before `Jets`, which draw themselves with it; `pyrino.plots` has all pictures.
"""
