"""Results of a simulated federation with local tensors and control variates."""

import torch
from safetensors.torch import load_file

from mama.model import build_model
from server.run.folder import RunFolder
from sim.run import federate


def test_the_final_model_is_the_federations_with_initial_local_tensors(
    small_config, site_files, tmp_path
):
    experiment = small_config(
        "federation.rounds=1", "strategy.local=['*norm*']", "strategy.scaffold=true"
    ).experiment()
    initial = dict(build_model(experiment).named_parameters())
    out = tmp_path / "out"
    assert federate(experiment, site_files(), out)["status"] == "finished"

    final = load_file(out / "final" / "model.safetensors")
    assert not any("variate" in name for name in final)
    arrays = RunFolder(out).latest().arrays
    shared = {name: array for name, array in arrays.items() if "variate" not in name}
    assert len(arrays) == 2 * len(shared)
    for name, array in shared.items():
        assert torch.equal(final[name], torch.from_numpy(array)), name
    local = [n for n, p in initial.items() if p.requires_grad and "norm" in n]
    assert local
    for name in local:
        assert torch.equal(final[name], initial[name]), name
    assert (out / "sites" / "alder" / "site_report.html").is_file()
