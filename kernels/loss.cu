// Losses that need no softmax. A scalar that lives on the device (the loss's weight, a normaliser) comes as a pointer to
// one number, so that nobody has to wait for it.
#include "rows.cuh"

// Sigmoid cross-entropy of one value: x * ((x >= 0) - t) + log(1 + exp(-|x|)); `valid` is 1 where the target counts.
KERNEL sigmoid_loss_forward(ROWS, int width, int ignore_label, const real* in, const real* target, real* loss,
                            real* valid) {
    FOR_ROWS(r) {
        size_t row = (size_t)r * width;
        const real* a = in + row;
        const real* t = target + row;
        FOR_LANES(i, width) {
            bool counts = (int)t[i] != ignore_label;
            real value = a[i] * ((a[i] >= 0 ? 1 : 0) - t[i]) + log1p_real(exp_real(a[i] >= 0 ? -a[i] : a[i]));
            loss[row + i] = counts ? value : 0;
            valid[row + i] = counts ? 1 : 0;
        }
    }
}

// (sigmoid(x) - t) * weight / normaliser
KERNEL sigmoid_loss_backward(ROWS, int width, int ignore_label, const real* weight, const real* normaliser,
                             const real* in, const real* target, real* in_diff) {
    FOR_ROWS(r) {
        size_t row = (size_t)r * width;
        real scale = weight[0] / normaliser[0];
        const real* a = in + row;
        const real* t = target + row;
        FOR_LANES(i, width) {
            in_diff[row + i] = (int)t[i] == ignore_label ? 0 : (sigmoid(a[i]) - t[i]) * scale;
        }
    }
}

// factor * weight * (x1 - x2), the gradient of the Euclidean loss
KERNEL euclidean_loss_backward(ROWS, int width, real factor, const real* weight, const real* in1, const real* in2,
                               real* in_diff) {
    FOR_ROWS(r) {
        real scale = factor * weight[0];
        const real* a1 = in1 + (size_t)r * width;
        const real* a2 = in2 + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = scale * (a1[i] - a2[i]);
    }
}

// Hinge: max(0, 1 - x) for the label's own score, max(0, 1 + x) for all others. Rows n, lanes the scores.
KERNEL hinge_margins(ROWS, int width, const real* in, const real* label, real* margin) {
    FOR_ROWS(r) {
        int k = (int)label[r];
        const real* a = in + (size_t)r * width;
        real* b = margin + (size_t)r * width;
        FOR_LANES(i, width) {
            real m = 1 + (i == k ? -a[i] : a[i]);
            b[i] = m > 0 ? m : 0;
        }
    }
}

// The gradient of their sum (`squared` 0), or of the sum of their squares, times factor * weight
KERNEL hinge_backward(ROWS, int width, int squared, real factor, const real* weight, const real* in, const real* label,
                      real* in_diff) {
    FOR_ROWS(r) {
        int k = (int)label[r];
        real scale = factor * weight[0];
        const real* a = in + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) {
            real sign = i == k ? -1 : 1, m = 1 + sign * a[i];
            b[i] = m > 0 ? scale * sign * (squared ? 2 * m : 1) : 0;
        }
    }
}

// -log(max(p[label], 1e-20)) of each sample's probabilities. Rows n, one lane; a label that is no class gives NaN.
KERNEL logistic_loss_forward(ROWS, int width, int classes, const real* in, const real* label, real* loss) {
    FOR_ROWS(r) {
        FOR_LANES(i, width) {
            int k = (int)label[r];
            bool known = k >= 0 && k < classes;
            real p = in[(size_t)r * classes + (known ? k : 0)];
            loss[r] = known ? -log_real(p < (real)1e-20 ? (real)1e-20 : p) : not_a_number(p);
        }
    }
}

// -factor * weight / p[label] at the label, 0 elsewhere. Rows n, lanes the classes.
KERNEL logistic_loss_backward(ROWS, int width, real factor, const real* weight, const real* in, const real* label,
                              real* in_diff) {
    FOR_ROWS(r) {
        int k = (int)label[r];
        real scale = factor * weight[0];
        const real* a = in + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = i == k ? -scale / (a[i] < (real)1e-20 ? (real)1e-20 : a[i]) : 0;
    }
}

// Contrastive loss of one pair from its squared distance: that itself if the two are similar, else how far they lie
// within the margin, squared (`legacy`: margin - squared distance). Rows n, one lane.
KERNEL contrastive_loss_forward(ROWS, int width, real margin, int legacy, const real* square, const real* similar,
                                real* loss) {
    FOR_ROWS(r) {
        FOR_LANES(i, width) {
            real gap = margin - (legacy ? square[r] : sqrt_real(square[r]));
            real apart = gap > 0 ? (legacy ? gap : gap * gap) : 0;
            loss[r] = (int)similar[r] ? square[r] : apart;
        }
    }
}

// Rows n, lanes the vector's elements; `factor` carries the sign, + for x1 and - for x2.
KERNEL contrastive_loss_backward(ROWS, int width, real factor, real margin, int legacy, const real* weight,
                                 const real* square, const real* similar, const real* in1, const real* in2,
                                 real* in_diff) {
    FOR_ROWS(r) {
        real scale = factor * weight[0], distance = sqrt_real(square[r]);
        if (!(int)similar[r]) {
            real gap = margin - (legacy ? square[r] : distance);
            scale = gap > 0 ? -scale * (legacy ? 1 : gap / (distance + (real)1e-4)) : 0;
        }
        const real* a1 = in1 + (size_t)r * width;
        const real* a2 = in2 + (size_t)r * width;
        real* b = in_diff + (size_t)r * width;
        FOR_LANES(i, width) b[i] = scale * (a1[i] - a2[i]);
    }
}
