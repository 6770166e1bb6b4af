#pragma once

#include <string>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/dist/transport_contract.h"

namespace lrq::dist::contract {

/// Every promise on 2 and on 4 ranks, as the parameters of a suite, and their names.
using CaseOnRanks = std::tuple<Case, int>;

inline auto cases_on_ranks() {
  return testing::Combine(testing::ValuesIn(cases().begin(), cases().end()), testing::Values(2, 4));
}
inline std::string name_of(const testing::TestParamInfo<CaseOnRanks>& info) {
  return std::get<0>(info.param).name + std::to_string(std::get<1>(info.param));
}

}  // namespace lrq::dist::contract
