"""A search over a staircase's cells, from where threshold crossing has ended."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from prlib.attacks.base import by_batch, check_parameters, per_image
from prlib.attacks.crossing import Game, climb_cells
from prlib.attacks.known import is_random, staircase_of
from prlib.data import Transform
from prlib.guard import guarded


@guarded
def search(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    defence: Transform | None,
    generator: torch.Generator,
    steps: int = 20,
    draws: int = 10,
    rounds: int = 20,
    moves: int = 8,
    width: int = 1,
    loss: str = "margin",
    batch_size: int = 128,
) -> Tensor:
    """Local search over cells: greedy with ``width`` 1, else a beam of so many states for each image.

    It begins where ``steps`` of ``crossing`` end. In every round the gradient of the expected loss ranks all moves of
    one pixel to another reachable cell, gaining or not; of the first ``moves`` of them each is tried, and each with
    the first beside it (a swap, where one takes a pixel back). What is tried is valued on ``draws`` that all share, new
    ones in each round, and the ``width`` best states go on. The state that ends first is the attack.

    Raises:
        ValueError: as ``crossing``.
    """
    check_parameters(epsilon=epsilon, steps=steps, draws=draws, batch_size=batch_size, loss=loss)
    check_parameters(rounds=rounds, moves=moves, width=width)
    stairs = staircase_of(defence)
    assert defence is not None  # or staircase_of would have raised
    draws = draws if is_random(defence) else 1  # all would be alike

    def attack(clean: Tensor, labels: Tensor) -> Tensor:
        game = Game(model, defence, stairs, clean, labels, generator, draws, loss)
        reach = stairs.reach(clean, epsilon)
        cells = climb_cells(game, stairs.cells(clean), *reach, steps)
        rest = ~game.fooled(cells)
        if rest.any():
            game = replace(game, clean=clean[rest], labels=labels[rest])
            cells[rest] = _searched(game, cells[rest], reach[0][rest], reach[1][rest], rounds, moves, width)
        return stairs.image(cells, clean)

    return torch.cat(by_batch(attack, model, images, labels, max(1, batch_size // draws)))


def _searched(game: Game, cells: Tensor, low: Tensor, high: Tensor, rounds: int, moves: int, width: int) -> Tensor:
    beam, every = cells[None], torch.arange(len(cells), device=cells.device)
    for _ in range(rounds):
        state = game.generator.get_state()
        tried = list(beam)
        for here in beam:
            game.generator.set_state(state)
            tried += _neighbours(game, here, low, high, moves)
        values = []
        for there in tried:
            game.generator.set_state(state)  # the same draws for all
            with torch.no_grad():
                values.append(game.values(game.redrawn(there)))
        beam = torch.stack(tried)[_best(torch.stack(values), width), every]
    return beam[0]


def _neighbours(game: Game, cells: Tensor, low: Tensor, high: Tensor, moves: int) -> list[Tensor]:
    """What a move of one pixel, or of the first two, makes of cells; a move that there is not changes nothing."""
    mean, gradient = game.stairs.mean.to(game.clean), game.slope(cells)[1]
    number = torch.arange(len(mean), device=cells.device).view(-1, *[1] * cells.ndim)
    gain = gradient * (per_image(mean)[:, None] - mean[cells])
    gain = gain.where((low <= number) & (number <= high) & (number != cells), -math.inf)
    ranked, places = gain.transpose(0, 1).flatten(1).topk(min(moves, gain[:, 0].numel()))
    pixels = cells[0].numel()

    def moved(start: Tensor, rank: int) -> Tensor:
        flat, pixel, cell = start.flatten(1), places[:, rank, None] % pixels, places[:, rank, None] // pixels
        cell = cell.where(ranked[:, rank, None].isfinite(), flat.gather(1, pixel))
        return flat.scatter(1, pixel, cell).view_as(start)

    ranks = range(ranked.shape[1])
    first = moved(cells, 0)
    return [*(moved(cells, rank) for rank in ranks), *(moved(first, rank) for rank in ranks[1:])]


def _best(values: Tensor, width: int) -> Tensor:
    """Of the values tried×N the places of each image's ``width`` largest ones, equal ones (the same cells) once."""
    ordered, order = values.sort(dim=0, descending=True, stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[1:] = ordered[1:] == ordered[:-1]
    chosen = ordered.masked_fill(again, -math.inf).sort(dim=0, descending=True, stable=True).indices[:width]
    return order.gather(0, chosen)
