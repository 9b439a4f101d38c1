"""Attacks on a classifier: the paper's four (Section 3.2), and those that are designed with the defence in mind.

Every attack is a function ``attack(model, images, labels=None, *, …)``. ``model`` is a module that returns
logits N×K; ``images`` are float N×C×H×W in [0, 1], and so is what comes back (with ``cw_l2``, which can fail, where it
succeeded); ``labels`` are int64 N, the classes to be driven away from, and None means the model's own predictions (no
label leaking; Kurakin et al., 2017).

An adaptive attack wants the labels, and more: ``generator`` of all random numbers, and ``defence``, the preprocessor
in front of the model (None if there is none), or a ``surrogate`` network. Its random numbers depend on an image's place
in the batch. ``prlib.attacks.registry`` says of each attack what it wants, and all else that an experiment must know.

The model is attacked in eval mode and left as found: its parameters, their ``grad`` and ``requires_grad``, the mode
of every module. ``batch_size`` bounds how many images the network sees at a time. Bad arguments raise a ValueError
before anything is computed, and so do logits that are not N×K or not finite (``prlib.guard``). An entry of a gradient
that is infinite is followed by its sign, and NaN not at all.
"""

from prlib.attacks.adversary import Adversary, RedrawnAdversary
from prlib.attacks.auto import auto
from prlib.attacks.black_box import hop_skip_jump, square
from prlib.attacks.carlini_wagner import cw_l2, cw_released
from prlib.attacks.choice import robust_probability, strongest
from prlib.attacks.crossing import crossing
from prlib.attacks.known import Known
from prlib.attacks.pgd import eot_pgd, pgd, straight_through, transfer, transfer_through
from prlib.attacks.search import search
from prlib.attacks.signs import bim, fgsm, mim
from prlib.attacks.staircase import Staircase, guaranteed, soft_mean
