"""What lets Megatron-Core run without CUDA, and that it leaves a host with CUDA alone."""

import torch

from pretrain.distributed import cpu


def test_nothing_is_touched_where_there_is_cuda(monkeypatch):
    monkeypatch.setattr(cpu, "has_cuda", lambda: True)
    before = (torch.cuda.current_device, torch.cuda.manual_seed, torch.Tensor.cuda)
    cpu.install()
    with cpu.tensors_stay():
        assert (torch.cuda.current_device, torch.cuda.manual_seed, torch.Tensor.cuda) == before


def test_ds_accelerator_can_refuse_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert not cpu.has_cuda()
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    assert cpu.has_cuda()


def test_cuda_literals_are_answered_by_the_cpu_in_megatrons_modules_only():
    seen_by_megatron = cpu._TorchOnCpu()
    for tensor in (
        seen_by_megatron.zeros(2, device="cuda"),
        seen_by_megatron.ones(2, device="cuda:0"),
        seen_by_megatron.tensor([1], device="cuda"),
    ):
        assert tensor.device.type == "cpu"
    assert seen_by_megatron.zeros(3, dtype=torch.int).dtype == torch.int
    assert seen_by_megatron.matmul is torch.matmul


def test_tensors_stay_and_the_method_comes_back():
    original = torch.Tensor.cuda
    tensor = torch.zeros(1)
    with cpu.tensors_stay():
        assert tensor.cuda() is tensor
    assert torch.Tensor.cuda is original
