# The paper's final model in miniature: its head, its assigner and its losses by inheritance, on a small network and on
# the embedded data set, from scratch. What differs is the overlay, the same that miniaturises any other experiment.
_base_ = './atss_r50_fpn_1x.py'
exec(open('{{ fileDirname }}/overlays/shapes.py').read())
