/* Fused multiply-adds on registers only: the most that one core can do. Returns a sum so that nothing is left out. */
typedef REAL lanes __attribute__((vector_size(64)));

#define CHAINS 16

double peak(long rounds) {
    lanes sum[CHAINS], a = {0}, b = {0};
    for (int l = 0; l < (int)(64 / sizeof(REAL)); l++) a[l] = (REAL)0.999, b[l] = (REAL)1e-3;
    for (int k = 0; k < CHAINS; k++) sum[k] = b * (REAL)k;
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 16
        for (int k = 0; k < CHAINS; k++) sum[k] = sum[k] * a + b;
        __asm__ volatile("");
    }
    double total = 0;
    for (int k = 0; k < CHAINS; k++)
        for (int l = 0; l < (int)(64 / sizeof(REAL)); l++) total += sum[k][l];
    return total;
}

long operations_a_round(void) { return 2L * CHAINS * (long)(64 / sizeof(REAL)); }
