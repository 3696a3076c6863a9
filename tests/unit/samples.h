/* samples.h: layers to try, for laws over the registry. A kind without a line here fails check_layers. */
#ifndef TESTS_SAMPLES_H
#define TESTS_SAMPLES_H

#include <string.h>

#include "layers/layer.h"

struct sample {
    const char *name, *config;
    lip_shape in; /* of every input, where the kind joins several */
};

static const struct sample sample[] = {
    {"InputLayer", "{}", {2, {3, 4}}},
    {"Dense", "{'units':5}", {1, {7}}},
    {"Dense", "{'units':3,'use_bias':false}", {3, {2, 3, 4}}},
    {"SpectralDense", "{'units':9}", {1, {6}}},
    {"SpectralDense", "{'units':1,'use_bias':false,'k_coef_lip':2.0,'eps_bjorck':null}", {2, {2, 6}}},
    {"FrobeniusDense", "{'units':4}", {1, {6}}},
    {"Conv2D", "{'filters':3,'kernel_size':3}", {3, {5, 6, 2}}},
    {"Conv2D", "{'filters':17,'kernel_size':[2,3],'padding':'SAME','strides':[2,1]}", {3, {5, 4, 5}}},
    {"Conv2D", "{'filters':4,'kernel_size':1,'use_bias':false}", {3, {3, 4, 6}}},
    {"SpectralConv2D", "{'filters':5,'kernel_size':[3,3]}", {3, {6, 5, 1}}},
    {"SpectralConv2D", "{'filters':2,'kernel_size':4,'strides':3,'use_bias':false}", {3, {7, 8, 6}}},
    {"GroupSort", "{}", {1, {9}}},
    {"GroupSort", "{'n':4,'k_coef_lip':3.0}", {3, {2, 3, 8}}},
    {"GroupSort", "{'n':2}", {2, {3, 6}}},
    {"GroupSort", "{'n':50}", {1, {40}}},
    {"GroupSort2", "{'k_coef_lip':0.5}", {1, {22}}},
    {"GroupSort2", "{}", {3, {2, 2, 1}}},
    {"ReLU", "{}", {1, {11}}},
    {"ReLU", "{'max_value':0.8,'negative_slope':0.25}", {2, {3, 5}}},
    {"Activation", "{'activation':'relu'}", {1, {8}}},
    {"Activation", "{'activation':'linear'}", {2, {2, 8}}},
    {"ScaledAveragePooling2D", "{'k_coef_lip':3.0}", {3, {5, 4, 3}}},
    {"ScaledAveragePooling2D", "{'pool_size':[2,3],'strides':[2,3]}", {3, {4, 7, 2}}},
    {"ScaledL2NormPooling2D", "{'k_coef_lip':0.5}", {3, {5, 5, 2}}},
    {"ScaledL2NormPooling2D", "{'pool_size':3,'eps_grad_sqrt':0}", {3, {3, 6, 4}}},
    {"Flatten", "{}", {3, {2, 3, 4}}},
    {"FrobeniusConv2D", "{'filters':4,'kernel_size':[3,2]}", {3, {4, 5, 2}}},
    {"Conv2DTranspose", "{'filters':3,'kernel_size':3}", {3, {3, 4, 2}}},
    {"Conv2DTranspose", "{'filters':5,'kernel_size':[1,2],'strides':[2,3],'padding':'same'}", {3, {3, 2, 6}}},
    {"SpectralConv2DTranspose", "{'filters':4,'kernel_size':[4,3],'strides':2}", {3, {3, 4, 5}}},
    {"PadConv2D", "{'filters':3,'kernel_size':3}", {3, {4, 3, 2}}},
    {"PadConv2D", "{'filters':3,'kernel_size':[4,3],'padding':'Circular'}", {3, {4, 3, 2}}},
    {"PadConv2D", "{'filters':2,'kernel_size':3,'strides':2,'padding':'reflect'}", {3, {4, 3, 2}}},
    {"PadConv2D", "{'filters':2,'kernel_size':[5,3],'padding':'symmetric'}", {3, {2, 3, 5}}},
    {"PadConv2D", "{'filters':2,'kernel_size':5,'padding':'constant','use_bias':false}", {3, {3, 3, 1}}},
    {"FullSort", "{'k_coef_lip':2}", {2, {3, 7}}},
    {"MaxMin", "{'k_coef_lip':0.5}", {2, {3, 5}}},
    {"Householder", "{}", {2, {3, 6}}},
    {"Householder", "{'theta_initializer':'zeros','k_coef_lip':5}", {1, {2}}},
    {"PReLU", "{}", {2, {3, 4}}},
    {"LeakyReLU", "{}", {1, {9}}},
    {"LeakyReLU", "{'alpha':1.5}", {1, {9}}},
    {"ELU", "{}", {1, {9}}},
    {"ELU", "{'alpha':2}", {1, {9}}},
    {"ThresholdedReLU", "{'theta':0}", {1, {9}}},
    {"ThresholdedReLU", "{}", {2, {2, 5}}},
    {"Softmax", "{}", {2, {2, 5}}},
    {"Softmax", "{'axis':1}", {3, {3, 2, 2}}},
    {"ScaledGlobalAveragePooling2D", "{'k_coef_lip':2}", {3, {3, 4, 2}}},
    {"ScaledGlobalAveragePooling2D", "{'keepdims':true}", {3, {1, 4, 3}}},
    {"ScaledGlobalL2NormPooling2D", "{'k_coef_lip':3,'eps_grad_sqrt':0}", {3, {3, 3, 2}}},
    {"InvertibleDownSampling", "{'pool_size':[2,3]}", {3, {4, 6, 2}}},
    {"InvertibleDownSampling", "{'pool_size':2,'channel_order':'subpixel_major'}", {3, {4, 2, 3}}},
    {"InvertibleUpSampling", "{'pool_size':[2,3]}", {3, {2, 1, 12}}},
    {"InvertibleUpSampling", "{'pool_size':2,'channel_order':'subpixel_major'}", {3, {2, 3, 8}}},
    {"MaxPooling2D", "{}", {3, {5, 4, 3}}},
    {"MaxPooling2D", "{'pool_size':3,'strides':[1,2],'padding':'same'}", {3, {4, 5, 2}}},
    {"AveragePooling2D", "{}", {3, {5, 4, 3}}},
    {"AveragePooling2D", "{'pool_size':[3,2],'strides':1,'padding':'same'}", {3, {4, 5, 2}}},
    {"GlobalMaxPooling2D", "{}", {3, {3, 2, 3}}},
    {"GlobalAveragePooling2D", "{'keepdims':true}", {3, {3, 2, 3}}},
    {"Reshape", "{'target_shape':[4,-1]}", {2, {2, 6}}},
    {"Permute", "{'dims':[3,1,2]}", {3, {2, 3, 4}}},
    {"Permute", "{'dims':[2,1]}", {2, {5, 3}}},
    {"ZeroPadding2D", "{}", {3, {2, 3, 2}}},
    {"ZeroPadding2D", "{'padding':[[1,0],[2,3]]}", {3, {2, 3, 2}}},
    {"Add", "{}", {2, {2, 5}}},
    {"Average", "{}", {1, {5}}},
    {"Subtract", "{}", {1, {6}}},
    {"Multiply", "{}", {1, {4}}},
    {"Concatenate", "{'axis':1}", {2, {2, 3}}},
    {"BatchNormalization", "{}", {1, {5}}},
    {"BatchNormalization", "{'axis':[3],'scale':false}", {3, {2, 3, 4}}},
    {"BatchNormalization", "{'axis':1,'center':false}", {2, {3, 2}}},
    {"Dropout", "{'rate':0.25}", {2, {3, 5}}},
    {"Rescaling", "{'scale':0.5,'offset':-1}", {2, {3, 5}}},
    {"TFOpLambda", "{'function':'math.multiply'}", {1, {5}}},
    {"PReLU", "{'shared_axes':[1,2]}", {3, {2, 3, 4}}},
    {"Flatten", "{'data_format':'channels_first'}", {3, {2, 3, 4}}},
    {"MaxMin", "{'data_format':'channels_first'}", {2, {3, 5}}},
    {"Conv2D", "{'filters':3,'kernel_size':[3,2],'data_format':'channels_first'}", {3, {2, 5, 6}}},
    {"Conv2D", "{'filters':6,'kernel_size':[2,3],'groups':3,'strides':[2,1],'padding':'same'}", {3, {5, 4, 9}}},
    {"Conv2D", "{'filters':5,'kernel_size':[3,2],'dilation_rate':[1,3]}", {3, {5, 6, 5}}},
    {"Conv2D", "{'filters':4,'kernel_size':3,'dilation_rate':2,'groups':2,'padding':'same','use_bias':false}", {3, {6, 5, 2}}},
    {"Conv2DTranspose", "{'filters':3,'kernel_size':[3,2],'dilation_rate':2}", {3, {3, 4, 5}}},
    {"Conv2DTranspose", "{'filters':4,'kernel_size':2,'dilation_rate':3,'padding':'same'}", {3, {3, 4, 2}}},
    {"Conv2DTranspose", "{'filters':3,'kernel_size':[3,2],'strides':[2,3],'padding':'same','output_padding':[0,2]}", {3, {3, 4, 2}}},
    {"Conv2DTranspose", "{'filters':2,'kernel_size':[2,3],'strides':3,'output_padding':[2,1]}", {3, {2, 3, 4}}},
    {"PadConv2D", "{'filters':4,'kernel_size':3,'groups':2,'padding':'reflect'}", {3, {4, 3, 6}}},
    {"PadConv2D", "{'filters':3,'kernel_size':3,'dilation_rate':[2,1],'padding':'circular'}", {3, {5, 4, 2}}},
};

enum { SAMPLES = sizeof sample / sizeof *sample };

static inline size_t inputs_of(const struct sample *s)
{
    if (!lip__kind_find(s->name)->join)
        return 1;
    return strcmp(s->name, "Subtract") ? 3 : 2;
}

#endif
