"""Judging: networks meet batches of images, behind defences and under attacks; what comes of it becomes cells."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn
from tqdm import tqdm

from prlib.attacks.choice import strongest
from prlib.cases import (
    ANY,
    CERTIFIED,
    CHOOSING,
    EVERY_CASE,
    Adversarial,
    Batch,
    Outcome,
    answered,
    certified,
    follow,
    measure,
)
from prlib.data import Split, Transform
from prlib.deadline import in_time
from prlib.experiment import Experiment, labelled
from prlib.halfway import AttackKey, Halfway, Judged, digest_of
from prlib.record import Cell, Place
from prlib.seeds import derive
from prlib.train import progress_bar


def cells(
    experiment: Experiment,
    networks: Iterable[tuple[int, nn.Module]],
    split: Split,
    surrogate: nn.Module | None,
    halfway: Halfway,
    batches: Sequence[int],
    device: str,
    progress: str,
) -> Iterator[Cell]:
    """Judge networks given with their epochs, in every way that the experiment asks for."""
    attacks: dict[AttackKey, Adversarial] = {(a.name, a.epsilon): a.build(surrogate) for a in experiment.attacks}
    defences = [(defence.name, defence.build(device)) for defence in experiment.tested_with]
    for epoch, network in networks:
        networks_are = digest_of(network, surrogate)
        for tested_with, defence in defences:
            seed, where = derive(experiment.training.seed, "test", epoch, tested_with), f", epoch {epoch}"
            found: dict[tuple[AttackKey, str], list[Outcome]] = {}
            kind, steps = progress if attacks else "none", len(batches) * len(attacks)
            with progress_bar(kind, total=steps, unit="attack", delay=1) as bar:
                for done, number in enumerate(in_time(batches), 1):
                    batch = Batch.of(split, number, seed, device)
                    judge = partial(_judge, experiment, network, batch, defence, attacks, bar, where)
                    which = f"epoch {epoch}, {tested_with}, batch {number}"
                    for key, outcome in halfway.outcomes(networks_are, which, judge).items():
                        found.setdefault(key, []).append(outcome)
                    bar.update(done * len(attacks) - bar.n)  # also what had been judged before
            for (attack, case), outcomes in found.items():
                yield Place(epoch, tested_with, *attack, case).cell(Outcome.joined(outcomes), experiment.draws)


def _judge(
    experiment: Experiment,
    network: nn.Module,
    batch: Batch,
    defence: Transform | None,
    attacks: Mapping[AttackKey, Adversarial],
    bar: tqdm,
    where: str,
) -> Judged:
    """What the experiment asks of a batch: its attacks in its cases, and a certificate if it wants boxes."""
    cases = experiment.cases or ("normal",)
    found = judge_batch(network, batch, defence, cases, attacks, bar, where, experiment.draws)
    if experiment.boxes:
        epsilon, own = experiment.attacks[0].epsilon, dict(experiment.attacks[0].options)["epsilon"]
        found[(ANY, epsilon), CERTIFIED] = certified(network, batch, defence, own, experiment.boxes)
    return found


def judge_batch(
    network: nn.Module,
    batch: Batch,
    defence: Transform | None,
    cases: tuple[str, ...],
    attacks: Mapping[AttackKey, Adversarial],
    bar: tqdm,
    where: str,
    draws: int,
) -> Judged:
    """What each attack comes to on a batch, and adaptive ones together, by the strongest of them for each image."""
    after: dict[AttackKey, dict[tuple[str, ...], Tensor]] = {}
    if not attacks:
        after["", None] = follow(network, batch, defence, cases)
    for named, attack in attacks.items():
        bar.set_description(labelled(*named) + where, refresh=bar.n < len(attacks))
        after[named] = follow(network, batch, defence, cases, attack)
        bar.update()
    if cases == ("adaptive",):
        candidates = [batch.images, *(images["attack knowing",] for images in after.values())]
        generator = batch.generator(CHOOSING)
        chosen = strongest(network, candidates, batch.labels, defence=defence, generator=generator)
        _, epsilon = next(iter(attacks))
        after["strongest", epsilon] = follow(network, batch, defence, cases, lambda *_: chosen)
    found = {}
    for named, seen in after.items():
        for case, outcome in measure(network, batch, cases, seen, defence).items():
            if draws > 1:  # of clean images, or of those of an attack that knows what follows
                outcome = replace(outcome, often=answered(network, batch, seen[EVERY_CASE[case][:-1]], defence, draws))
            found[named, case] = outcome
    return found
