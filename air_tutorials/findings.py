"""Say in sentences what a half converted program computes, from nothing but the numbers of its outcome."""

from collections.abc import Iterator

from air_tutorials.outcomes import BATCH_SIZE, NUM_EPOCHS, NUM_TEST_IMAGES, Outcome

_SMALL = 1e-6


def findings(outcome: Outcome) -> Iterator[tuple[bool, str]]:
    """Say what an outcome means, sentence by sentence, and of each whether it is as it should be."""
    if outcome.difference < _SMALL:
        yield True, "The weights are those of one process: none differs by a millionth."
    else:
        yield (
            False,
            f"It is another training: weights differ by up to {outcome.difference:.1g} from those of one process.",
        )
    workers = _number(outcome.num_workers, "worker")
    if outcome.disagreement < _SMALL:
        yield True, f"{workers}, one model: they hold the same weights."
    else:
        yield False, f"{workers}, {outcome.num_workers} models: they differ by up to {outcome.disagreement:.1g}."
    steps = f"An epoch has {_number(outcome.num_steps, 'step')}"
    if outcome.num_taken == outcome.num_different == BATCH_SIZE:
        yield True, f"{steps} of {BATCH_SIZE} different images."
    elif outcome.num_taken == outcome.num_different:
        yield False, f"{steps}. The first takes {outcome.num_taken} images, and not {BATCH_SIZE}."
    else:
        taken = f"{outcome.num_taken} images are taken, but only {outcome.num_different} different ones"
        yield False, f"{steps}. In the first, {taken}: the workers do the same work."
    yield from _about_reports(outcome)


def _about_reports(outcome: Outcome) -> Iterator[tuple[bool, str]]:
    right = outcome.num_scored == NUM_TEST_IMAGES
    yield (
        right,
        f"The score counts {outcome.num_scored} test images, {'and' if right else 'but'} there are {NUM_TEST_IMAGES}.",
    )
    if outcome.loss_error < _SMALL:
        yield True, "The training loss is the mean over all workers."
    else:
        yield (
            False,
            f"The training loss is that of worker 0: {outcome.loss_error:.1g} beside the mean over all workers.",
        )
    right = not outcome.is_same_order
    yield (
        right,
        f"Shuffled, the second epoch takes the images in {'another order' if right else 'the order of the first'}.",
    )
    checkpoints = f"Ray has {_number(outcome.num_checkpoints, 'checkpoint')}"
    if outcome.num_checkpoints == NUM_EPOCHS and not outcome.num_saves:
        yield True, f"{checkpoints}, one for each epoch."
    else:
        yield False, f"{checkpoints}; the workers saved {_number(outcome.num_saves, 'time')} to the same directory."
    right = outcome.num_epochs_again == NUM_EPOCHS - 1
    again = (
        f"Killed after the first of {NUM_EPOCHS} epochs and started again, it trains {outcome.num_epochs_again} more"
    )
    yield right, f"{again}." if right else f"{again}: it begins anew."
    if outcome.stuck:
        yield False, f"With a single test image it never ends. {outcome.stuck}"
    else:
        yield True, "With a single test image, and workers that have none, it ends, too."


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
