"""Formats of the engine's modes beside softmax attention: ``linear``, ``state``, ``decay``, ``scan`` (docs/modes.md).

Words, table, score scaling, accumulators and output scaler are those of attention; what is new stands here.

====================  ===========================================  ================================================
signal                format                                       why
====================  ===========================================  ================================================
weight                signed 12 bit                                operand of the PV array, whose multiplier takes
                                                                   13 x 12 bit so that softmax's unsigned weights
                                                                   still fit
decay exponent        unsigned 24 bit, 20 fraction bits            -log2 of the decay; 12 fraction bits would give
                                                                   1 - 2^-12 a time constant wrong by 30 %
decay word            unsigned 12 bit: 4-bit exponent, 8-bit       a data-dependent decay exponent in memory; steps
                      mantissa                                     of at most 2^-8 of itself, from 2^-11 to 16
decay factor          unsigned 16 bit, and a right shift           softmax's table of 2^-f, upper 12 bits of f
state fraction        unsigned 20 bit, 20 fraction bits            what is not yet shifted out of a state row
state word            signed 24 bit, saturated                     upper 12 in the V SRAM, lower 12 in the K SRAM
output scale          17-bit mantissa, shift                       in place of a row's reciprocal
====================  ===========================================  ================================================
"""

from accel.units.pv import OUTPUT_SHIFT, RECIPROCAL_WORD_BITS
from accel.units.softmax import SCORE_BITS, SCORE_FRACTION_BITS

SIGNED_WEIGHT_BITS = 12
#: Signed multiplier operand that holds both an unsigned 12-bit weight of softmax and a signed one.
WEIGHT_OPERAND_BITS = 13

# ---- decays ------------------------------------------------------------------------------------------------------
DECAY_FRACTION_BITS = 20
DECAY_BITS = 24
#: Fraction bits that the table of 2^-f takes.
TABLE_INPUT_BITS = SCORE_FRACTION_BITS
DECAY_WORD_MANTISSA_BITS = 8
DECAY_WORD_EXPONENT_BITS = 4
#: A decay word counts units of 2^-19, so that its largest is just below 16, the largest decay exponent.
DECAY_WORD_UNIT_SHIFT = 1
#: Bits that a weight loses of a 22-bit score: what is below the PV array's operand.
DECAY_WEIGHT_SHIFT = SCORE_BITS - SIGNED_WEIGHT_BITS
#: Largest distance between query and key; a context has 2^16 tokens at most.
MAX_LAG = (1 << 16) - 1
#: Integer and fraction bits of lag times decay exponent.
DECAY_SUM_BITS = DECAY_BITS + MAX_LAG.bit_length()

# ---- state -------------------------------------------------------------------------------------------------------
STATE_BITS = 24
STATE_LOW_BITS = 12
#: Right shift of the product k' v, 4 bits; 2^16 tokens of the largest words without any decay need 15.
MAX_STATE_SHIFT = 15
#: Fraction bits of the key 2^(kappa - level) of a state with levels: its largest, 1, is stored as 2047.
EXPONENT_KEY_BITS = SIGNED_WEIGHT_BITS - 1
#: A row of a state with levels, one of whose words reaches this magnitude, is halved before the next addition.
PEAK = 1 << (STATE_BITS - 2)

# ---- linear ------------------------------------------------------------------------------------------------------
#: Elements of x in one job: one per V row. The whole reduction is a chain of such tiles.
LINEAR_ROWS = 128
#: Largest x word of a bias row: a power of two, so that bias words are exact multiples of accumulator units.
BIAS_X_MAX = 1 << 10
#: What the one word of key j is, so that scores are x with as many bits behind it as a weight loses of a score.
IDENTITY_WORD = 1 << DECAY_WEIGHT_SHIFT
OUTPUT_SCALE_BITS = RECIPROCAL_WORD_BITS
#: Of a job's output scale: the whole shift, with that of the scaler, is at most 62.
MAX_OUTPUT_SHIFT = 62 - OUTPUT_SHIFT

# ---- scan --------------------------------------------------------------------------------------------------------
SCAN_WORD_BITS = 16  # of a state as it is read: the upper part of its 24 bits
LEAK_BITS = 16  # mantissa of 1 - a, normalised: a time constant of any length keeps 16 bits
