"""Three members train one network on scikit-learn's images of digits; scikit-learn trains the same one, by the same batches, in the same number of steps.

The members are threads here, each with a connection of its own; elsewhere they would be processes on three machines, and nothing else would be different.
What they come to agrees with scikit-learn's MLPClassifier to the last digits. With an argument, the learning curves are drawn into that file.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import sumgrad as sg
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sumgrad.batches import rows_of

HIDDEN, RATE, MOMENTUM, ALPHA = 64, 0.1, 0.9, 1e-4
TRAIN, BATCH, EPOCHS, SEED = 1400, 200, 30, 0
EPOCH_STEPS = TRAIN // BATCH
STEPS = EPOCHS * EPOCH_STEPS
MEMBERS = ("ada", "bea", "cleo")


def images() -> tuple[dict[str, Any], dict[str, Any]]:
    """1,400 images of 64 pixels from 0 to 1 to learn from, and 397 to be tested with, with as many of each digit as there are in all."""
    pixels, digits = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16.0, digits, train_size=TRAIN, stratify=digits, random_state=SEED)
    return {"x": parts[0], "y": parts[2]}, {"x": parts[1], "y": parts[3]}


def classifier(rate: float = RATE) -> MLPClassifier:
    """The network of scikit-learn: softmax of ten outputs, stochastic gradient descent with Nesterov's momentum."""
    return MLPClassifier(
        hidden_layer_sizes=(HIDDEN,),
        activation="relu",
        solver="sgd",
        alpha=ALPHA,
        batch_size=BATCH,
        learning_rate="constant",
        learning_rate_init=rate,
        momentum=MOMENTUM,
        nesterovs_momentum=True,
        shuffle=False,
        random_state=SEED,
    )


def weights_of(network: MLPClassifier) -> dict[str, Any]:
    """Its weights by the names that they have in ours."""
    pairs = zip(network.coefs_, network.intercepts_, strict=True)
    return {
        f"mlp.{layer}.{name}": np.array(part)
        for layer, pair in enumerate(pairs)
        for name, part in zip(("weight", "bias"), pair, strict=True)
    }


def starting_weights(train: dict[str, Any]) -> dict[str, Any]:
    """Those that scikit-learn begins with: of a network that learns so slowly that nothing has changed."""
    return weights_of(classifier(rate=1e-300).partial_fit(train["x"][:BATCH], train["y"][:BATCH], classes=range(10)))


def objective() -> sg.Objective:
    """The same network here: mean cross entropy, plus alpha / 2 times the squares of all weights divided by the batch's size, as scikit-learn has it."""
    net = sg.nn.MLP(64, [HIDDEN, 10], activation="relu")
    pixels, digit = sg.input("x", shape=(64,)), sg.input("y", dtype=int)
    squares = sum((sg.sum(sg.square(layer.weight)) for layer in net.layers), sg.Value(0.0))
    return sg.Objective(sg.nn.cross_entropy(net(pixels), digit), penalty=0.5 * ALPHA / BATCH * squares, reduction="mean")


def score(weights: dict[str, Any], test: dict[str, Any]) -> float:
    """The part of the test images that a network tells right."""
    hidden = np.maximum(test["x"] @ weights["mlp.0.weight"] + weights["mlp.0.bias"], 0.0)
    outputs = hidden @ weights["mlp.1.weight"] + weights["mlp.1.bias"]
    return float(np.mean(outputs.argmax(axis=1) == test["y"]))


def learn(address: str, name: str, train: dict[str, Any], test: dict[str, Any]) -> tuple[dict[str, Any], list[float], list[float]]:
    """One member: takes its part of every batch until the run has ended. The final weights, the loss of each step, the test score of each epoch."""
    optimizer = sg.optim.SGD(RATE, momentum=MOMENTUM, nesterov=True)
    with sg.connect(address) as service:
        run = service.run("digits", objective(), optimizer, params=starting_weights(train), members=len(MEMBERS), max_steps=STEPS)
        losses, scores = [], []
        with run.join(name, data=train, batch_size=BATCH, seed=SEED) as member:
            for step in member:
                losses.append(step.value)
                if len(losses) % EPOCH_STEPS == 0:
                    scores.append(score(step.params, test))
        return run.params(), losses, scores


def learn_together(train: dict[str, Any], test: dict[str, Any]) -> tuple[dict[str, Any], list[float], list[float]]:
    """All members at one server."""
    with sg.local(workers=2) as service, ThreadPoolExecutor(len(MEMBERS)) as threads:
        address = service.process.address
        found = list(threads.map(lambda name: learn(address, name, train, test), MEMBERS))
    return found[0]


def learn_by_scikit(train: dict[str, Any], test: dict[str, Any]) -> tuple[dict[str, Any], list[float], list[float]]:
    """Scikit-learn, with the same batches: those that three members share in each step."""
    network, losses, scores = classifier(), [], []
    for step in range(STEPS):
        rows = rows_of(step, 0, 1, samples=TRAIN, batch_size=BATCH, seed=SEED)
        network.partial_fit(train["x"][rows], train["y"][rows], classes=range(10))
        losses.append(network.loss_)
        if len(losses) % EPOCH_STEPS == 0:
            scores.append(network.score(test["x"], test["y"]))
    return weights_of(network), losses, scores


def draw(path: str, ours: tuple[Any, list[float], list[float]], theirs: tuple[Any, list[float], list[float]]) -> None:
    """The learning curves of both, one upon the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    steps, epochs = np.arange(STEPS), np.arange(1, EPOCHS + 1)
    left.semilogy(steps, theirs[1], color="#e0b48f", linewidth=5.0, label="scikit-learn, MLPClassifier")
    left.semilogy(steps, ours[1], color="#1b4f75", linewidth=1.2, label="sumgrad, three members")
    left.set(xlabel="step", ylabel="loss of the batch", title="Loss")
    right.plot(epochs, 100.0 * np.array(theirs[2]), "o", color="#e0b48f", markersize=9.0, label="scikit-learn, MLPClassifier")
    right.plot(epochs, 100.0 * np.array(ours[2]), ".-", color="#1b4f75", linewidth=1.2, label="sumgrad, three members")
    right.axhline(97.0, color="#999999", linewidth=0.8, linestyle="--")
    right.set(xlabel="epoch", ylabel="% of 397 test images", title="Accuracy")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(picture: str | None = None) -> None:
    """Trains both, and prints how well they do after each epoch."""
    train, test = images()
    ours, theirs = learn_together(train, test), learn_by_scikit(train, test)
    print("epoch   sumgrad   scikit-learn")
    for epoch, (here, there) in enumerate(zip(ours[2], theirs[2], strict=True), 1):
        print(f"{epoch:5}   {here:7.2%}   {there:12.2%}")
    apart = max(float(np.abs(ours[0][name] - theirs[0][name]).max()) for name in theirs[0])
    print(f"after {STEPS} steps of {len(MEMBERS)} members no weight differs from scikit-learn's by more than {apart:.1e}")
    if picture is not None:
        draw(picture, ours, theirs)


if __name__ == "__main__":
    main(*sys.argv[1:])
