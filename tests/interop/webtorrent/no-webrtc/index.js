// Stands in for a native module: over TCP no WebRTC is needed.
export const RTCPeerConnection = undefined
export const RTCSessionDescription = undefined
export const RTCIceCandidate = undefined
export default {}
