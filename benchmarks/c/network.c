/* Value and gradient of a D0-D1-D2-D3 network with tanh after every layer and squared error, D3 = 1.
   x is feature-major; LANES samples at a time go through all layers, sums are kept for each lane and added up in double at the end. */
#include <math.h>
#include <string.h>

#define LANES (int)(128 / sizeof(REAL))
typedef REAL block[LANES];

static REAL tanh_(REAL v) {
    return sizeof(REAL) == 4 ? (REAL)tanhf((float)v) : (REAL)tanh(v);
}

#define FORWARD(m, n, in, w, b, out)                                        \
    for (int j = 0; j < n; j++) {                                           \
        for (int l = 0; l < LANES; l++) out[j][l] = b[j];                   \
        for (int i = 0; i < m; i++)                                         \
            for (int l = 0; l < LANES; l++) out[j][l] += in[i][l] * w[i * n + j]; \
        for (int l = 0; l < LANES; l++) out[j][l] = tanh_(out[j][l]);       \
    }

/* From the slope in the outputs of a layer: sums for its weights and biases, and the slope in its inputs. */
#define BACKWARD(m, n, in, w, out, slope, sw, sb, below)                    \
    for (int j = 0; j < n; j++)                                             \
        for (int l = 0; l < LANES; l++) {                                   \
            slope[j][l] *= 1 - out[j][l] * out[j][l];                       \
            sb[j][l] += slope[j][l];                                        \
        }                                                                   \
    for (int i = 0; i < m; i++) {                                           \
        for (int l = 0; l < LANES; l++) below[i][l] = 0;                    \
        for (int j = 0; j < n; j++)                                         \
            for (int l = 0; l < LANES; l++) {                               \
                below[i][l] += slope[j][l] * w[i * n + j];                  \
                sw[i * n + j][l] += in[i][l] * slope[j][l];                 \
            }                                                               \
    }

#define W0 (D0 * D1)
#define W1 (D1 * D2)
#define W2 (D2 * D3)
#define COUNT (W0 + D1 + W1 + D2 + W2 + D3)

double gradient(long samples, const REAL *x, const REAL *y, const REAL *params, double *found) {
    const REAL *w0 = params, *b0 = w0 + W0, *w1 = b0 + D1, *b1 = w1 + W1, *w2 = b1 + D2, *b2 = w2 + W2;
    static block sums[COUNT];
    block *s0 = sums, *t0 = s0 + W0, *s1 = t0 + D1, *t1 = s1 + W1, *s2 = t1 + D2, *t2 = s2 + W2;
    block in[D0], h1[D1], h2[D2], h3[D3], g0[D0], g1[D1], g2[D2], g3[D3], real;
    double value = 0;
    memset(found, 0, COUNT * sizeof *found);
    memset(sums, 0, sizeof sums);
    for (long first = 0; first < samples; first += LANES) {
        long here = samples - first < LANES ? samples - first : LANES;
        for (int i = 0; i < D0; i++)
            for (int l = 0; l < LANES; l++) in[i][l] = l < here ? x[i * samples + first + l] : 0;
        for (int l = 0; l < LANES; l++) real[l] = l < here;
        FORWARD(D0, D1, in, w0, b0, h1)
        FORWARD(D1, D2, h1, w1, b1, h2)
        FORWARD(D2, D3, h2, w2, b2, h3)
        REAL part = 0;
        for (int l = 0; l < LANES; l++) {
            REAL error = (h3[0][l] - (l < here ? y[first + l] : 0)) * real[l];
            part += error * error;
            g3[0][l] = 2 * error;
        }
        value += part;
        BACKWARD(D2, D3, h2, w2, h3, g3, s2, t2, g2)
        BACKWARD(D1, D2, h1, w1, h2, g2, s1, t1, g1)
        BACKWARD(D0, D1, in, w0, h1, g1, s0, t0, g0)
        if (first / LANES % 64 == 63 || first + LANES >= samples) {
            for (int k = 0; k < COUNT; k++)
                for (int l = 0; l < LANES; l++) found[k] += sums[k][l];
            memset(sums, 0, sizeof sums);
        }
    }
    return value;
}
