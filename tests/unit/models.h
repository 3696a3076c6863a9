/* models.h: small definitions that several tests use. */
#ifndef TESTS_MODELS_H
#define TESTS_MODELS_H

#define MLP                                                                                                              \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"mlp\",\"k_coef_lip\":1.0,\"layers\":["                       \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,6],\"name\":\"x\"}},"                       \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":8,\"name\":\"d1\"}},"                                      \
    "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"sort\"}},"                                                   \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":4,\"activation\":\"relu\",\"name\":\"d2\"}},"              \
    "{\"class_name\":\"FrobeniusDense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}"

#define CNN                                                                                                              \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"cnn\",\"k_coef_lip\":1.0,\"layers\":["                       \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,8,6,1],\"name\":\"x\"}},"                   \
    "{\"class_name\":\"SpectralConv2D\",\"config\":{\"filters\":4,\"kernel_size\":[3,3],\"name\":\"c1\"}},"             \
    "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"s1\"}},"                                                     \
    "{\"class_name\":\"ScaledL2NormPooling2D\",\"config\":{\"pool_size\":[2,2],\"name\":\"p1\"}},"                      \
    "{\"class_name\":\"SpectralConv2D\",\"config\":{\"filters\":6,\"kernel_size\":3,\"strides\":2,\"name\":\"c2\"}},"   \
    "{\"class_name\":\"ScaledAveragePooling2D\",\"config\":{\"pool_size\":[2,2],\"name\":\"p2\"}},"                     \
    "{\"class_name\":\"Flatten\",\"config\":{\"name\":\"f\"}},"                                                         \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":5,\"name\":\"d\"}},"                                       \
    "{\"class_name\":\"FrobeniusDense\",\"config\":{\"units\":3,\"name\":\"y\"}}]}}"

/* Branches that meet, a nested Sequential that shares its own k, a nested model's name in paths. */
#define GRAPH                                                                                                            \
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"graph\",\"layers\":["                                      \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,6],\"name\":\"x\"},\"name\":\"x\","        \
    "\"inbound_nodes\":[]},"                                                                                            \
    "{\"class_name\":\"Concatenate\",\"config\":{\"name\":\"cat\"},\"name\":\"cat\","                                \
    "\"inbound_nodes\":[[[\"sum\",0,0,{}],[\"x\",0,0,{}]]]},"                                                          \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":8,\"name\":\"d1\"},\"name\":\"d1\","                    \
    "\"inbound_nodes\":[[[\"x\",0,0,{}]]]},"                                                                            \
    "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"tower\",\"k_coef_lip\":4.0,\"layers\":["                  \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,8],\"name\":\"in\"}},"                     \
    "{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"sort\"}},"                                                \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":8,\"name\":\"d\"}}]},\"name\":\"tower\","               \
    "\"inbound_nodes\":[[[\"d1\",0,0,{}]]]},"                                                                           \
    "{\"class_name\":\"Add\",\"config\":{\"name\":\"sum\"},\"name\":\"sum\","                                        \
    "\"inbound_nodes\":[[[\"d1\",0,0,{}],[\"tower\",1,0,{}]]]},"                                                       \
    "{\"class_name\":\"FrobeniusDense\",\"config\":{\"units\":3,\"name\":\"y\"},\"name\":\"y\","                     \
    "\"inbound_nodes\":[[[\"cat\",0,0,{}]]]}],"                                                                        \
    "\"input_layers\":[[\"x\",0,0]],\"output_layers\":[[\"y\",0,0]]}}"

/* Two inputs that meet, two outputs: y (3) and, behind it or beside it, z (1). */
#define TWINS                                                                                                            \
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"twins\",\"layers\":["                                      \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,4],\"name\":\"a\"},\"name\":\"a\","        \
    "\"inbound_nodes\":[]},"                                                                                            \
    "{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,2],\"name\":\"b\"},\"name\":\"b\","        \
    "\"inbound_nodes\":[]},"                                                                                            \
    "{\"class_name\":\"Concatenate\",\"config\":{\"name\":\"cat\"},\"name\":\"cat\","                                \
    "\"inbound_nodes\":[[[\"a\",0,0,{}],[\"b\",0,0,{}]]]},"                                                            \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":8,\"activation\":\"relu\",\"name\":\"d\"},"               \
    "\"name\":\"d\",\"inbound_nodes\":[[[\"cat\",0,0,{}]]]},"                                                         \
    "{\"class_name\":\"FrobeniusDense\",\"config\":{\"units\":3,\"name\":\"y\"},\"name\":\"y\","                     \
    "\"inbound_nodes\":[[[\"d\",0,0,{}]]]},"                                                                           \
    "{\"class_name\":\"SpectralDense\",\"config\":{\"units\":1,\"name\":\"z\"},\"name\":\"z\","                      \
    "\"inbound_nodes\":[[[\"y\",0,0,{}]]]}],"                                                                          \
    "\"input_layers\":[[\"a\",0,0],[\"b\",0,0]],\"output_layers\":[[\"y\",0,0],[\"z\",0,0]]}}"

/* A layer and a nested model that are used twice each, and a product with a number. */
#define SHARED \
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"shared\",\"layers\":[{\"class_name\":\"InputLayer\",\"" \
    "config\":{\"batch_input_shape\":[null,6],\"name\":\"x\"},\"name\":\"x\",\"inbound_nodes\":[]},{\"class_name" \
    "\":\"SpectralDense\",\"config\":{\"units\":6,\"activation\":\"relu\",\"name\":\"d\"},\"name\":\"d\",\"inboun" \
    "d_nodes\":[[[\"x\",0,0,{}]],[[\"sort\",0,0,{}]]]},{\"class_name\":\"GroupSort2\",\"config\":{\"name\":\"sort" \
    "\"},\"name\":\"sort\",\"inbound_nodes\":[[[\"d\",0,0,{}]]]},{\"class_name\":\"TFOpLambda\",\"config\":{\"fun" \
    "ction\":\"math.multiply\",\"name\":\"half\"},\"name\":\"half\",\"inbound_nodes\":[[\"d\",1,0,{\"y\":0.5,\"na" \
    "me\":null}]]},{\"class_name\":\"Sequential\",\"config\":{\"name\":\"tower\",\"k_coef_lip\":2.0,\"layers\":[{" \
    "\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,6],\"name\":\"in\"}},{\"class_name\":" \
    "\"SpectralDense\",\"config\":{\"units\":4,\"name\":\"e\"}},{\"class_name\":\"GroupSort2\",\"config\":{\"name" \
    "\":\"s\"}}]},\"name\":\"tower\",\"inbound_nodes\":[[[\"d\",0,0,{}]],[[\"half\",0,0,{}]]]},{\"class_name\":\"" \
    "Add\",\"config\":{\"name\":\"sum\"},\"name\":\"sum\",\"inbound_nodes\":[[[\"tower\",1,0,{}],[\"tower\",2,0,{" \
    "}]]]},{\"class_name\":\"FrobeniusDense\",\"config\":{\"units\":3,\"name\":\"y\"},\"name\":\"y\",\"inbound_no" \
    "des\":[[[\"sum\",0,0,{}]]]}],\"input_layers\":[[\"x\",0,0]],\"output_layers\":[[\"y\",0,0]]}}"

#endif
