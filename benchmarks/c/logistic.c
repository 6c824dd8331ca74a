/* Value and gradient of a logistic regression with D features and labels -1 and 1; x is feature-major. */
#include <math.h>
#include <string.h>

#define LANES (int)(1024 / sizeof(REAL))

static REAL exp_(REAL v) {
    return sizeof(REAL) == 4 ? (REAL)expf((float)v) : (REAL)exp(v);
}

static REAL log_(REAL v) {
    return sizeof(REAL) == 4 ? (REAL)logf((float)v) : (REAL)log(v);
}

double gradient(long samples, const REAL *x, const REAL *y, const REAL *params, double *found) {
    double value = 0;
    memset(found, 0, (D + 1) * sizeof *found);
    for (long first = 0; first < samples; first += LANES) {
        int here = samples - first < LANES ? samples - first : LANES;
        REAL margin[LANES], slope[LANES], part = 0;
        for (int l = 0; l < here; l++) margin[l] = params[D];
        for (int i = 0; i < D; i++)
            for (int l = 0; l < here; l++) margin[l] += params[i] * x[i * samples + first + l];
        for (int l = 0; l < here; l++) {
            REAL m = -y[first + l] * margin[l], e = exp_(-(m < 0 ? -m : m));
            part += (m > 0 ? m : 0) + log_(1 + e);
            slope[l] = -y[first + l] * (m > 0 ? 1 : e) / (1 + e);
        }
        value += part;
        for (int i = 0; i <= D; i++) {
            REAL sum = 0;
            if (i < D)
                for (int l = 0; l < here; l++) sum += slope[l] * x[i * samples + first + l];
            else
                for (int l = 0; l < here; l++) sum += slope[l];
            found[i] += sum;
        }
    }
    return value;
}
