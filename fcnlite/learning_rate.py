"""Caffe's learning rate policies (SGDSolver::GetLearningRate)."""

from __future__ import annotations

import numpy as np

from fcnlite.errors import InputError
from fcnlite.proto import Message


def learning_rate(param: Message, iteration: int, current_step: int = 0) -> float:
    """The learning rate of an iteration (Caffe's SGDSolver::GetLearningRate), rounded to float32 where Caffe does.

    Parameters
    ----------
    param : SolverParameter
        Its `lr_policy` is fixed, step, exp, inv, multistep, poly or sigmoid.
    iteration : int
        Updates made so far.
    current_step : int
        For multistep: the number of `stepvalue` entries passed.
    """
    policy = param.lr_policy or "fixed"
    if param.gamma < 0 and policy in ("step", "exp", "inv", "multistep"):
        raise InputError(f"lr_policy {policy} needs a gamma of at least 0; {param.gamma:g} is given")
    if policy == "step" and param.stepsize < 1:
        raise InputError("lr_policy step needs a stepsize of at least 1")
    if policy == "poly" and param.max_iter < 1:
        raise InputError("lr_policy poly needs a max_iter of at least 1")
    one, gamma, power, done = map(np.float32, (1, param.gamma, param.power, iteration))
    with np.errstate(over="ignore", under="ignore"):  # a rate may become 0 or infinite
        if policy == "fixed":
            factor = one
        elif policy == "step":
            factor = np.float64(gamma) ** (iteration // param.stepsize)
        elif policy == "exp":
            factor = np.float64(gamma) ** iteration
        elif policy == "inv":
            factor = (one + gamma * done) ** -power
        elif policy == "multistep":
            factor = np.float64(gamma) ** current_step
        elif policy == "poly":
            factor = max(np.float32(0), one - done / np.float32(param.max_iter)) ** power
        elif policy == "sigmoid":
            factor = one / (one + np.exp(-gamma * (done - np.float32(param.stepsize))))
        else:
            raise InputError(
                f"lr_policy '{policy}' is unknown; there are fixed, step, exp, inv, multistep, poly and sigmoid"
            )
        return float(np.float32(param.base_lr) * factor)


def steps_passed(param: Message, iteration: int, before: int) -> int:
    """The number of steps down, for the policies step and multistep.

    Parameters
    ----------
    param : SolverParameter
    iteration : int
        Updates made so far.
    before : int
        The number known so far, from which multistep goes on, as in Caffe.
    """
    if param.lr_policy == "step":
        return iteration // param.stepsize
    passed = before
    if param.lr_policy == "multistep":
        while passed < len(param.stepvalue) and iteration >= param.stepvalue[passed]:
            passed += 1
    return passed
