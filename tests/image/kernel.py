"""A CUDA kernel and a program that runs it when it is given an argument."""

from __future__ import annotations

KERNEL = """
#include <cstdio>
#include <cub/cub.cuh>
#include <cuda_fp16.h>

__global__ void sums(const __half *in, float *out) {
    using Reduce = cub::BlockReduce<float, 128>;
    __shared__ typename Reduce::TempStorage storage;
    float sum = Reduce(storage).Sum(__half2float(in[threadIdx.x]));
    if (threadIdx.x == 0) *out = sum;
}

extern "C" int compiled_kernel() {
    __half halves[128], *in; float *out, sum = 0;
    for (auto &half : halves) half = __float2half(0.5f);
    if (cudaMalloc(&in, sizeof halves) || cudaMalloc(&out, sizeof sum)) return -1;
    cudaMemcpy(in, halves, sizeof halves, cudaMemcpyHostToDevice);
    sums<<<1, 128>>>(in, out);
    return cudaMemcpy(&sum, out, sizeof sum, cudaMemcpyDeviceToHost) ? -2 : int(sum);
}
"""
MAIN = """
extern "C" int compiled_kernel();
int main(int count, char **) { return count > 1 ? compiled_kernel() : 0; }
"""
