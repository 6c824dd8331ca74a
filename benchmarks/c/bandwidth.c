/* Reads memory once: eight sums side by side. */
double bandwidth(const double *numbers, long count) {
    double sum[8] = {0};
    for (long i = 0; i + 8 <= count; i += 8)
        for (int l = 0; l < 8; l++) sum[l] += numbers[i + l];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}
