"""Why a target is missed, by what was measured and against what; the page shows it beside the miss, and only then.

What was tried is said with its effect. The numbers were taken on the machine that the page names, one run each.
"""

_FIT = (
    "a run of Ray Train is more processes than its workers: the controller, and an actor each for placement groups, "
    "synchronization, datasets and preemption; together they took about 13 s of CPU, most of it imports of PyTorch and "
    "Ray Train, which two cores share. Tried, in s to the first step (8.3 to 8.8 without): no preemption watcher "
    "8.5 to 8.8; the environment variables set for the whole job instead of for each worker 8.3 to 8.6; PyTorch "
    "imported beforehand in Ray's idle processes (`RAY_preload_python_modules`) 11 to 13, since more processes then "
    "start than are used; the same with Ray Train as well 15 to 23. What is started once a run matters less the longer "
    "it trains."
)
_PREDICTION = (
    "a part of it is fixed: some 5 s until two actors have imported PyTorch and the first files are read. The rest is "
    "the way: Ray reads in one process and predicts in another, so each row is written to shared memory and read from "
    "it, and the results once more. Of some 36 s of CPU the model takes 15 and reading 8; the two processes by hand "
    "take 23 for everything. Tried, at a million rows, in s: blocks of 4 batches 40, of 16 batches 24, no cutting at "
    "all 24; then one actor for the footers of the files in place of Ray's 32, each of them a process, 21, which is "
    "what is measured here; reading and predicting in one process, which ends streaming, was 4 s faster."
)
_SERVE = (
    "each request passes Serve's proxy, a Python process, is copied to the replica and back, and all of them share the "
    "two cores with the clients; FastAPI under uvicorn answers in the process that has the model, and can use one core "
    "only. Tried, in requests/s at 64 clients (334 without): user code and router in the main thread 348; gRPC between "
    "proxy and replica 395; HAProxy in place of the proxy 1,528."
)
_HAPROXY = (
    "HAProxy and the replica share two cores with the clients; most of the replica's time goes to reading JSON, as in "
    "a plain app. A request waits up to 1 ms for others that could be predicted with it, which one client alone never "
    "sends; a plain app does not wait, and does not batch. Tried, waiting for 5 ms, 1 ms and not at all: one client's "
    "p99 9, 5 and 4.5 ms, and 1,440, 1,320 and 1,130 requests/s at 64 clients."
)
_FASTAPI, _LITSERVE = "FastAPI under uvicorn", "LitServe"

CAUSES: dict[tuple[str, str], str] = {
    (
        "from `fit()` to the first step, warm cluster, 2 workers",
        "`torchrun`, hand-written DDP",
    ): _FIT,
    ("batch prediction, 2 workers", "two hand-written processes"): _PREDICTION,
    ("training, 2 workers", "`torchrun`, hand-written DDP"): (
        "the loop is the same, and so is what runs in it; the difference is the noise of a machine that others share, "
        "which the spread shows."
    ),
    ("peak memory of a batch prediction, 1,000,000 rows", "itself, 100,000 rows"): (
        "the smaller run is over before all processes have grown to what they take; then the peak stays where it "
        "is. It was 5.7 GiB before Parquet was read in smaller parts."
    ),
    ("16 tuning trials with early stopping", "a plain loop over the same epochs"): (
        "the loop's one process has a thread for each of the two cores and keeps both busy, so nothing is idle "
        "that Ray could use; what it gains is that one thread wastes less than two. It pays some 4 s once, until two "
        "processes have started and imported PyTorch, which weighs less in a longer experiment: 0.79 × with at most 8 "
        "epochs of 9,600 images. Between two trials of a process nothing is lost, and a trial's epoch takes 0.53 s, "
        "the loop's 0.71 to 0.89 s (9,600 images)."
    ),
    ("16 tuning trials with early stopping", "Optuna, 2 jobs"): (
        "Optuna's trials are threads of one process, which starts nothing and copies no checkpoint; its rule often "
        "stops more epochs, see above. Without the start, an epoch of Ray's takes less than one of Optuna's, whose "
        "threads share one interpreter: 0.53 s and 0.58 s (9,600 images). A process that crashes ends all of its "
        "trials."
    ),
    **{
        (f"{how}, {what}", peer): cause
        for how, cause in (("HTTP", _SERVE), ("HTTP behind HAProxy", _HAPROXY))
        for what in ("1 client, p99", "64 clients, requests", "64 clients, p99")
        for peer in (_FASTAPI, _LITSERVE)
    },
}
